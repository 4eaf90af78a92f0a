"""Every run file that is shipped is sound, says what it is, and trains on the tiny base."""

import math

import pytest

from train.__main__ import main
from train.data.synthetic import Synthetic
from train.preflight import check
from train.processes import Processes
from train.registry import CONFIGS, experiments, on_tiny
from train.start import start

EXPERIMENTS = {experiment.name: experiment for experiment in experiments()}


def patterns(run, needs, base, draws):
    data = run.data
    return Synthetic(base, needs, draws, data.size_px, references=data.references, drop=data.drop)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_nothing_is_wrong_with_it_but_files_that_are_not_here(name):
    run = EXPERIMENTS[name].run
    check(run.model_copy(update={"adapter": run.adapter.model_copy(update={"weights": None}), "init_from": None}))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_trains_two_steps_on_the_tiny_base(name, tmp_path):
    experiment = EXPERIMENTS[name]
    assert experiment.about, "about: is empty"
    run = on_tiny(experiment.run).model_copy(update={"output": str(tmp_path / "run")})
    begun = start(run, Processes(), patterns)
    before = {key: p.detach().clone() for key, p in begun.loop.trained.names.items()}
    records = list(begun.loop.steps(0, 2, lambda: False))
    assert [record.step for record in records] == [1, 2]
    assert all(math.isfinite(record.losses["loss"]) and record.grad_norm > 0 for record in records)
    assert any(not p.equal(before[key]) for key, p in begun.loop.trained.names.items())


def test_no_two_experiments_write_to_the_same_folder():
    outputs = [experiment.run.output for experiment in EXPERIMENTS.values()]
    assert len(set(outputs)) == len(outputs)


def test_the_list_shows_each_with_what_it_is(capsys):
    assert main(["--list"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for path in CONFIGS.rglob("*.yaml"):
        assert f"configs/train/{path.relative_to(CONFIGS)}" in shown
    for experiment in EXPERIMENTS.values():
        assert "".join(experiment.about.split())[:40] in shown
