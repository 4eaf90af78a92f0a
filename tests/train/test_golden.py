"""Losses of 20 steps on a fixed seed, kept: a change that should change no number gives the same list.

`python tests/train/test_golden.py` writes them again. Float32 on one thread: the same list bit by bit on one kind of
CPU. Kernels for other CPUs round differently: see TOLERANCE.
"""

import json
import sys
from pathlib import Path

import pytest

from train.data.synthetic import Synthetic
from train.processes import Processes
from train.registry import CONFIGS, load, on_tiny
from train.start import start

FOLDER = Path(__file__).parent / "golden"
STEPS = 20
TOLERANCE = 1e-6
"""Relative. Other kernels of the same CPU (ATEN_CPU_CAPABILITY=default, =avx2 with oneDNN and MKL held to AVX2) differ
by 2.2e-7 at most from those of AVX-512 that made the file."""
FAMILIES = ("ip_adapter_base", "thesis_5_1_7", "thesis_5_2_4")


def losses(name):
    run = on_tiny(load(str(CONFIGS / f"{name}.yaml"), ["optim.warmup_steps=5", "optim.lr=1e-3"]))
    run = run.model_copy(update={"output": "/nonexistent", "loop": run.loop.model_copy(update={"steps": STEPS})})
    loop = start(run, Processes(), patterns).loop
    return [record.losses["loss"] for record in loop.steps(0, STEPS, lambda: False)]


def patterns(run, needs, base, draws):
    data = run.data
    return Synthetic(base, needs, draws, data.size_px, references=data.references, drop=data.drop)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_losses_are_what_they_were(name):
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    now = losses(name)
    worst = max(abs(a - b) / abs(a) for a, b in zip(kept, now, strict=True))
    assert worst <= TOLERANCE, f"relative difference {worst:.1e}: {now}"
    assert len(set(now)) == STEPS


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for family in sys.argv[1:] or FAMILIES:
        (FOLDER / f"{family}.json").write_text(json.dumps(losses(family), indent=0) + "\n")
