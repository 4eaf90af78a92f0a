"""A run's curves as one picture: loss, and gauges on held-out photos. Read from its metrics, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path

from train.log import read_metrics

FILE = "curves.png"


def draw_curves(folder: Path) -> Path:
    """Write `curves.png` beside `metrics.jsonl`."""
    from matplotlib.figure import Figure

    lines = read_metrics(folder)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, gap, collapse = figure.subplots(1, 3)
    for name, label in (("loss", "training"), ("gauge/loss", "held out")):
        loss.plot(*_series(lines, name), marker=".", label=label)
    loss.set(title="loss", xlabel="step")
    loss.legend()
    steps, values = _series(lines, "gauge/swap_gap")
    gap.plot(steps, values, marker=".")
    bounds = [_series(lines, f"gauge/swap_gap_{end}")[1] for end in ("low", "high")]
    gap.fill_between(steps, *bounds, alpha=0.2)
    gap.axhline(0, color="black", linewidth=0.8)
    gap.set(title="swap gap, 95 % interval (0: references are ignored)", xlabel="step")
    collapse.plot(*_series(lines, "gauge/collapse"), marker=".")
    collapse.set(title="collapse (1: everybody is the same)", xlabel="step", ylim=(-0.3, 1.02))
    figure.savefig(folder / FILE, dpi=100)
    return folder / FILE


def _series(lines: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    found = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
