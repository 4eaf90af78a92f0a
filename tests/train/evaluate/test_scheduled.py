"""Evaluation while training: in the log, on a schedule; two processes give what one gives."""

from dataclasses import dataclass

import pytest
import torch

from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.base_models import load_base
from train.evaluate.scheduled import Scheduled
from train.log import read_metrics
from train.processes import Processes
from train.run import train

SMALL = {"every": 2, "people": 2, "images": 2, "photos": 2, "steps": 1, "merge_step": 0, "guidance": 1.0}


@pytest.fixture
def run(tiny_run, people, settings):
    evaluate = {**SMALL, "prompts": settings().prompts, "sets": ["in_train"]}
    return tiny_run(
        data={"dataset": people},
        adapter={"kind": "ip_adapter", "encoder": "base"},
        evaluate=evaluate,
        loop={"ema": 0.9},
    )


@pytest.mark.slow
def test_it_is_logged_when_it_is_time_and_at_the_end(run, faces, tmp_path, capsys):
    assert train(run) == 0
    lines = [line for line in read_metrics(tmp_path / "run") if any(key.startswith("evaluate/") for key in line)]
    assert [line["step"] for line in lines] == [2, 4]
    names = {key.split("/")[2] for key in lines[0] if "/" in key}
    assert {"face_sim_reference", "no_face", "clip_t_tiny_clean", "clip_i_tiny_photo", "face_div_tiny"} <= names
    assert lines[0] != {**lines[1], "step": 2}, "the weights have changed"
    assert "in_train no_face 0.000" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(run, faces):
    base = load_base(BaseConfig(), clip=True)
    adapter = load_adapter(run.adapter, base).train()
    alone = Scheduled(run, base, adapter, Processes()).measure()
    assert adapter.training, "left as it was"

    @dataclass
    class Half:
        rank: int
        others: list
        world: int = 2

        def gather(self, own):
            self.own = own
            return [own, *self.others]

    first = Half(0, [])
    Scheduled(run, base, adapter, first).measure()
    second = Half(1, [first.own])
    together = Scheduled(run, base, adapter, second).measure()
    assert together == pytest.approx(alone, abs=2e-3), "pictures round as they are drawn beside others"
    assert together.keys() == alone.keys()
    assert first.own
    assert second.own
    assert torch.is_grad_enabled()
