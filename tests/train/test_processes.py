"""Two processes under torchrun do the steps of one, and one of them writes."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from crawl.errors import InputError
from train.checkpoint import find
from train.log import read_metrics
from train.processes import Processes
from train.run import train

_SCRIPT = """
    import sys
    from train.config import TrainRun
    from train.data.synthetic import Synthetic
    from train.run import train

    run = TrainRun.model_validate_json(open(sys.argv[1]).read())
    sys.exit(train(run, lambda run, needs, base, draws: Synthetic(base, needs, draws, run.data.size_px)))
"""


@pytest.mark.parametrize(("batch_size", "world"), [(4, 2), (5, 2), (7, 3), (3, 3)])
def test_every_row_belongs_to_one_process(batch_size, world):
    shares = [Processes(rank, world).rows(batch_size) for rank in range(world)]
    assert [row for share in shares for row in share] == list(range(batch_size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_smaller_than_the_world_is_refused():
    with pytest.raises(InputError, match=r"loop\.batch_size: 1 samples cannot be shared by 2 processes"):
        Processes(0, 2).rows(1)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, run_in, synthetic):
    """Losses and gradient norms to 1e-6. Adam divides a weight's gradient by its size, so that rounding of one that is
    nearly zero counts: weights are compared to a tenth of a step."""
    options = {
        "adapter": {"kind": "ip_adapter"},
        "loop": {"steps": 4, "batch_size": 5, "train_unet": False, "micro_batch": 2, "ema": 0.9, "gauges_every": 2},
    }
    one, two = (run_in(tmp_path / name, **options) for name in ("one", "two"))
    script, config = tmp_path / "two.py", tmp_path / "two.json"
    script.write_text(textwrap.dedent(_SCRIPT))
    config.write_text(two.model_dump_json())
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 × cpu") == 1
    train(one, synthetic())
    alone, shared = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(alone) == len(shared) == 7
    for line, other in zip(alone, shared, strict=True):
        same = {key: abs(line[key] - other[key]) for key in ("loss", "grad_norm", "gauge/loss") if key in line}
        assert max(same.values()) < 1e-6, json.dumps(same)
    first, second = find(one.output).weights(mean=False), find(two.output).weights(mean=False)
    assert first.keys() == second.keys()
    difference = max(float((first[key] - second[key]).abs().max()) for key in first)
    assert difference < one.optim.lr / 10, difference
    assert all(value.isfinite().all() for value in first.values())
    assert isinstance(next(iter(first.values())), torch.Tensor)
