"""The run files of this family: each G and U, shared and per slot; the recipe; exportable where they say so."""

from pathlib import Path

import pytest
import yaml

from train.adapters.settings import IpAdapterSettings
from train.config import TrainRun
from train.export.check import check_exportable

FOLDER = Path(__file__).parents[3] / "configs" / "train"
RUNS = {path.stem: TrainRun(**yaml.safe_load(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))}
OURS = {n: run for n, run in RUNS.items() if isinstance(run.adapter, IpAdapterSettings) and n != "tiny"}


def test_every_aggregation_is_there_shared_and_per_slot():
    there = {(run.adapter.keys, run.adapter.values, run.adapter.per_slot) for run in OURS.values()}
    for how in ("concat", "mean", "max", "linear", "attention", "self_attention", "weighted"):
        assert {(how, how, False), (how, how, True)} <= there
    assert any(run.adapter.keys != run.adapter.values for run in OURS.values())
    assert {run.adapter.encoder for run in OURS.values()} == {"base", "plus", "faceid"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_it_says_what_it_is_and_trains_by_the_recipe(name):
    run = OURS[name]
    assert len(run.about.splitlines()[0]) <= 125
    assert run.output.endswith(name)
    assert (run.optim.name, run.optim.lr, run.optim.weight_decay) == ("adamw", 1e-4, 0.01)
    assert (run.data.drop.text, run.data.drop.identity, run.data.drop.both) == (0.05, 0.05, 0.05)
    assert run.data.references[1] <= run.adapter.max_references
    check_exportable(run)
