"""`benchmarks.learn` has a row for every method, and runs that know one person are told apart by their photos."""

import typing

import pytest
import torch

from benchmarks.learn import row
from benchmarks.learn_people import measure
from benchmarks.learn_systems import PERSON_LR, SYSTEMS, person_settings, settings
from shards.read import Dataset
from train.adapters.settings import AdapterSettings
from train.checkpoint import find, folders, save
from train.config import TrainRun
from train.preflight import check
from train.run import train

SMALL = {"data": {"size_px": 32, "holdout": 0.4}, "loop": {"steps": 1, "save_every": 1}}


def test_every_method_of_the_trainer_has_a_row():
    kinds = {kind.model_fields["kind"].default for kind in typing.get_args(typing.get_args(AdapterSettings)[0])}
    assert {system["kind"] for system in SYSTEMS.values()} == kinds - {"none"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_run_file_is_right(name, tmp_path):
    document = (
        person_settings(name, "who", "shards", "out", str(tmp_path), 50)
        if name in PERSON_LR
        else settings(SYSTEMS[name], "shards", "out", 1200)
    )
    check(TrainRun.model_validate(document))


def test_a_row_has_a_dash_for_what_is_not_measured():
    last = {"step": 9, "gauge/loss": 0.5, "gauge/collapse": None, "gauge/swap_gap": 0.01}
    last |= {"gauge/swap_gap_low": -0.02, "gauge/swap_gap_high": 0.03}
    assert row("x", last, 1.25) == "| x | 9 | 1.2 | 0.5000 | +0.0100 | -0.0200 to +0.0300 | — | — | — |"
    pose = {f"gauge/swap_gap_pose{end}": value for end, value in (("", 0.1), ("_low", 0), ("_high", 0.2))}
    assert row("x", last | pose, 1).endswith("| — | +0.1000 (+0.0000 to +0.2000) | — |")


@pytest.fixture
def runs(tmp_path, write_people, run_in):
    """Dataset; person → checkpoint of a run that is of this person by name only: all weights are alike."""
    dataset = write_people(tmp_path / "people", counts=(5, 4, 3))
    run = run_in(tmp_path / "run", data={"dataset": dataset, **SMALL["data"]}, loop=SMALL["loop"])
    assert train(run) == 0
    (checkpoint,) = folders(tmp_path / "run")
    return dataset, dict.fromkeys(sorted(Dataset(dataset).index.identities), str(checkpoint))


def test_the_gap_is_between_the_runs(runs, tmp_path):
    """One person's run made worse: everybody else's photos look better under their own, hers worse."""
    dataset, alike = runs
    same = measure(alike, dataset, 6)
    assert [same[f"gauge/swap_gap{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    first, *_ = alike
    found = find(alike[first])
    weights = {key: value + 0.5 if key == "unet.conv_out.bias" else value for key, value in found.weights().items()}
    worse = measure(alike | {first: str(save(tmp_path / "worse", found.meta, {"weights": weights}))}, dataset, 6)
    assert worse["gauge/loss"] > same["gauge/loss"]
    assert worse["gauge/swap_gap_low"] < 0 < worse["gauge/swap_gap_high"]
    assert torch.tensor(worse["gauge/swap_gap"]).isfinite()
