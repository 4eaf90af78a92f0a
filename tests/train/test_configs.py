"""The experiments of the thesis and PhotoMaker's recipes: each is there, says what it is, trains what its row says."""

import pytest
import yaml

from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.settings import LoraSettings, PhotoMakerSettings
from train.base_models import load_base
from train.config import TrainRun
from train.export.check import check_exportable

PROJECTIONS_AND_FUSE = {"projections": 1e-5, "fuse": 1e-5}
THESIS = {  # name: (learning rate of each trained group, rank of LoRA, begins from, optimiser steps of warm-up)
    "a_1_1": ({**PROJECTIONS_AND_FUSE, "clip": 1e-5, "lora": 1e-4}, 64, None, 0),
    "a_1_2": (PROJECTIONS_AND_FUSE, None, None, 0),
    "a_1_3": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5}, 1, None, 0),
    "a_1_4": ({"lora": 1e-5}, 1, "thesis_a_1_2", 0),
    "a_1_5": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5}, 16, "thesis_a_1_3", 0),
    "5_1_1": ({**PROJECTIONS_AND_FUSE, "clip": 1e-5, "lora": 1e-4}, 64, None, 0),
    "5_1_2": ({**PROJECTIONS_AND_FUSE, "clip": 1e-5}, None, None, 0),
    "5_1_3": (PROJECTIONS_AND_FUSE, None, None, 0),
    "5_1_4": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5}, 1, None, 0),
    "5_1_5": ({**PROJECTIONS_AND_FUSE, "clip": 1e-5, "lora": 1e-4}, 64, "photomaker-v1.bin", 0),
    "5_1_6": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5}, 64, "photomaker-v1.bin", 0),
    "5_1_7": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5}, 64, "photomaker-v1.bin", 500),
    "5_2_1": ({"projections": 1e-5, "kv": 1e-5, "norm": 1e-4}, None, "photomaker-v1.bin", 500),
    "5_2_2": ({**PROJECTIONS_AND_FUSE, "kv": 1e-5, "norm": 1e-4}, None, "photomaker-v1.bin", 500),
    "5_2_3": ({"projections": 1e-5, "lora": 1e-5, "norm": 1e-4}, 64, "photomaker-v1.bin", 500),
    "5_2_4": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5, "kv": 1e-5}, 64, "photomaker-v1.bin", 500),
    "background_body": ({**PROJECTIONS_AND_FUSE, "lora": 1e-5, "kv": 1e-5}, 64, "photomaker-v1.bin", 500),
    "target": ({"projections": 1e-5, "lora": 1e-5, "kv": 1e-4, "norm": 1e-4}, 64, "photomaker-v1.bin", 500),
}
PAPER = {**PROJECTIONS_AND_FUSE, "clip": 1e-5, "lora": 1e-4}


@pytest.fixture(scope="module")
def runs(pytestconfig):
    files = sorted((pytestconfig.rootpath / "configs" / "train").glob("*.yaml"))
    return {path.stem: TrainRun(**yaml.safe_load(path.read_text())) for path in files}


def learning_rates(run):
    """Group → learning rate, of the run's adapter on the tiny base."""
    small = {} if run.adapter.lora is None else {"lora": LoraSettings(rank=min(run.adapter.lora.rank, 2))}
    settings = run.adapter.model_copy(update={"weights": None, **small})
    groups = load_adapter(settings, load_base(BaseConfig(), clip=True, face=settings.version == "v2")).groups()
    assert run.optim.group_lr.keys() <= {group.name for group in groups}
    return {group.name: run.optim.group_lr.get(group.name, run.optim.lr) for group in groups}


def test_every_run_file_says_what_it_is_and_can_be_written_as_it_wishes(runs):
    for name, run in runs.items():
        first = run.about.splitlines()[0]
        assert 20 < len(first) <= 125, f"{name}: {first}"
        assert run.output == f"out/train/{name}"
        check_exportable(run)


def test_every_experiment_of_the_thesis_is_there(runs):
    assert {f"thesis_{name}" for name in THESIS} == {name for name in runs if name.startswith("thesis_")}


@pytest.mark.parametrize("name", THESIS)
def test_it_trains_what_its_row_says_from_where_it_says(name, runs):
    rates, rank, begins, warmup_steps = THESIS[name]
    run = runs[f"thesis_{name}"]
    assert learning_rates(run) == rates
    assert (None if run.adapter.lora is None else run.adapter.lora.rank) == rank
    source = run.init_from or run.adapter.weights
    assert (None if source is None else source.split("/")[-1]) == begins
    assert run.init_from is None or run.init_from.split("/")[-1] in runs
    assert run.optim.warmup_steps == warmup_steps
    number = (
        name.upper().replace("_", ".") if name[-1].isdigit() else "3.3.2" if name == "target" else "After the thesis"
    )
    assert number in run.about.splitlines()[0]
    assert "Differs" in run.about


@pytest.mark.parametrize("name", THESIS)
def test_it_follows_the_recipe_that_they_share(name, runs):
    run = runs[f"thesis_{name}"]
    assert run.base.weights == ("hotshotco/SDXL-512" if name != "a_1_1" else "stabilityai/stable-diffusion-xl-base-1.0")
    assert (run.data.size_px, run.data.references, run.data.masked_loss) == (512, (1, 4), 0.5)
    assert (run.data.drop.text, run.data.drop.identity, run.data.drop.both) == (0, 0, 0.1)
    assert (run.optim.name, run.optim.weight_decay, run.optim.max_grad_norm) == ("adam", 0, None)
    assert (run.loop.batch_size, run.samples.merge_step, run.samples.steps, run.samples.guidance) == (24, 10, 50, 5)


def test_the_papers_recipes_train_the_whole_tower_at_1024(runs):
    for name in ("photomaker_paper", "photomaker_v2"):
        run = runs[name]
        assert isinstance(run.adapter, PhotoMakerSettings)
        assert learning_rates(run) == PAPER
        assert (run.data.size_px, run.loop.batch_size, run.data.drop.both, run.data.masked_loss) == (1024, 48, 0.1, 0.5)


def test_the_tiny_ones_need_no_file(runs):
    for name in ("tiny_photomaker", "tiny_split_prompt"):
        run = runs[name]
        assert (run.base.family, run.base.weights, run.adapter.weights, run.loop.train_unet) == (
            "tiny",
            None,
            None,
            True,
        )
        assert learning_rates(run).keys() >= {"clip", "projections", "fuse", "lora"}
