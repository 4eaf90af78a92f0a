"""Evaluation while training: in the log, on a schedule; two processes give what one gives."""

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

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

_SCRIPT = """
    import runpy, sys
    from train.evaluate import faces
    from train.config import TrainRun
    from train.run import train

    detector = runpy.run_path(sys.argv[2])["Detector"]
    faces.load_detector = lambda config: detector()
    sys.exit(train(TrainRun.model_validate_json(open(sys.argv[1]).read())))
"""


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
def test_it_is_logged_when_it_is_time_and_two_processes_log_the_same(run, faces, tmp_path, capsys):
    """The two are real, under torchrun, over gloo: they train, draw, measure and gather, and one of them writes."""
    assert train(run) == 0
    said = capsys.readouterr().out.count("in_train no_face 0.000")
    assert said == 2
    alone = _evaluated(tmp_path / "run")
    assert [line["step"] for line in alone] == [2, 4]
    names = {key.split("/")[2] for key in alone[0] if "/" in key}
    assert {"face_sim_reference", "no_face", "clip_t_tiny_clean", "clip_i_tiny_photo", "face_div_tiny"} <= names
    assert alone[0] != {**alone[1], "step": 2}, "the weights have changed"

    script, config = tmp_path / "two.py", tmp_path / "two.json"
    script.write_text(textwrap.dedent(_SCRIPT))
    config.write_text(run.model_copy(update={"output": str(tmp_path / "two")}).model_dump_json())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [str(script), str(config), str(Path(__file__).with_name("conftest.py"))]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 × cpu") == 1
    assert done.stdout.count("in_train no_face 0.000") == said
    together = _evaluated(tmp_path / "two")
    assert len(together) == len(alone)
    for line, other in zip(alone, together, strict=True):
        assert other == pytest.approx(line, abs=2e-3), "pictures round as they are drawn beside others"


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


def _evaluated(folder):
    """Lines of the log that evaluation wrote, without clocks."""
    lines = [line for line in read_metrics(folder) if any(key.startswith("evaluate/") for key in line)]
    return [{key: line[key] for key in line if key == "step" or key.startswith("evaluate/")} for line in lines]
