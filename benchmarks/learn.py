"""`python -m benchmarks.learn [SYSTEM …]`: does each adapter family learn who is who, from scratch, on a CPU?

Builds shards from the shared real photos, encodes what frozen encoders say of them, trains each system on the tiny
base (UNet and all), and prints its gauges on held-out photos of the same people: the swap gap with its 95 % interval
over people, and collapse. Nothing that shows a person is kept: numbers only, in `--keep`, so that the same command
goes on after a stop. `--curves FILE.png` draws them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.learn_data import dataset_at
from benchmarks.learn_people import key, learn_people
from benchmarks.learn_systems import PERSON_LR, SYSTEMS, WIDE, settings
from benchmarks.shared_photos import default_folder

HEAD = (
    "system", "steps", "CPU minutes", "held-out loss", "swap gap", "95 % interval", "of the look", "of the pose",
    "collapse",
)  # fmt: skip
Curve = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of: {'; '.join(SYSTEMS)}")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--keep", type=Path, default=Path("out/learn"), help="folder of what was measured")
    parser.add_argument("--curves", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    for name in arguments.systems:
        if name not in SYSTEMS:
            parser.error(f"{name}: not one of: {'; '.join(SYSTEMS)}")
    if not (default_folder() / "photos").is_dir():
        parser.error("PERSONAE_SHARED names no folder of real photos")
    print(f"| {' | '.join(HEAD)} |")
    print("|---|---:|---:|---:|---:|---|---|---|---:|", flush=True)
    curves = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.systems or SYSTEMS:
            curves[name] = kept = measured(name, arguments.steps, arguments.keep, Path(folder))
            print(row(name, kept["lines"][-1], kept["cpu_minutes"]), flush=True)
            if arguments.curves:
                plot({name: kept["lines"] for name, kept in curves.items()}, arguments.curves)


def measured(name: str, steps: int, keep: Path, folder: Path) -> dict[str, Any]:
    """What was kept of this system with these settings, or else now measured: settings, cpu_minutes, lines."""
    file = keep / f"{name.replace(' ', '_')}.json"
    dataset, alone = "wide" if name in WIDE else "dataset", name in PERSON_LR
    wanted = key(name, steps) if alone else settings(SYSTEMS[name], dataset, "run", steps)
    if file.exists() and (kept := json.loads(file.read_text()))["settings"] == json.loads(json.dumps(wanted)):
        return dict(kept)
    shards = dataset_at(folder / dataset, wide=name in WIDE)
    how = learn_people if alone else learn
    lines, minutes = how(name, shards, folder, steps)
    made = {"settings": wanted, "cpu_minutes": minutes, "lines": lines}
    keep.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=0) + "\n")
    return made


def learn(name: str, dataset: str, folder: Path, steps: int) -> tuple[Curve, float]:
    """Train; the gauges' lines of its log, CPU minutes. SystemExit for a run that was stopped: no half curves."""
    from train.config import TrainRun
    from train.log import read_metrics
    from train.run import train

    began, output = time.process_time(), folder / name
    code = train(TrainRun.model_validate(settings(SYSTEMS[name], dataset, str(output), steps)))
    assert code == 0, f"training ended with {code}"
    lines = [line for line in read_metrics(output) if "gauge/loss" in line]
    if lines[-1]["step"] < steps:
        raise SystemExit(f"stopped after step {lines[-1]['step']} of {steps}")
    return lines, (time.process_time() - began) / 60


def row(name: str, last: dict[str, Any], minutes: float) -> str:
    gap, interval = _gap(last, "swap_gap")
    look, pose = (" ".join(_gap(last, f"swap_gap_{part}")) for part in ("look", "pose"))
    collapse = "—" if last["gauge/collapse"] is None else f"{last['gauge/collapse']:.2f}"
    numbers = [f"{last['gauge/loss']:.4f}", gap, interval[1:-1], look, pose, collapse]
    return " | ".join([f"| {name}", str(last["step"]), f"{minutes:.1f}", *numbers]) + " |"


def _gap(last: dict[str, Any], name: str) -> tuple[str, ...]:
    """A gap and its interval in brackets; a dash for what the system has not."""
    gap, low, high = (last.get(f"gauge/{name}{end}") for end in ("", "_low", "_high"))
    return ("—",) if gap is None else (f"{gap:+.4f}", f"({low:+.4f} to {high:+.4f})")


def plot(curves: dict[str, Curve], path: Path) -> None:
    """Swap gap with its interval, and collapse where a system has one, over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (gap, collapse) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for number, (name, lines) in enumerate(curves.items()):
        steps = [line["step"] for line in lines]
        look = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        gap.plot(steps, [line["gauge/swap_gap"] for line in lines], label=name, **look)
        bounds = ([line[f"gauge/swap_gap_{end}"] for line in lines] for end in ("low", "high"))
        gap.fill_between(steps, *bounds, color=look["color"], alpha=0.1)
        if lines[-1]["gauge/collapse"] is not None:
            collapse.plot(steps, [line["gauge/collapse"] for line in lines], **look)
    gap.axhline(0, color="black", linewidth=0.8)
    collapse.axhline(0.9, color="black", linewidth=0.8, linestyle="--")
    gap.set(title="swap gap on held-out photos, 95 % interval", xlabel="step", ylabel="loss, others − own")
    collapse.set(title="collapse: mean cosine between people", xlabel="step", ylim=(-0.3, 1.02))
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
