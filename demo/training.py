"""The demo's second half: an adapter trained on the demo's shards, on the tiny base, exported and loaded back."""

from __future__ import annotations

from pathlib import Path

from train.checkpoint import load_run
from train.curves import draw_curves
from train.export.write import LIMIT, default_name, write
from train.log import read_metrics
from train.registry import CONFIGS, load
from train.run import train


def train_on(dataset: str) -> int:
    """Exit code 0 when training ended, and diffusers gives the same output with the exported file."""
    run = load(str(CONFIGS / "tiny.yaml"), [f"data.dataset={dataset}"])
    if code := train(run):
        return code
    folder = Path(run.output)
    gauges = [line for line in read_metrics(folder) if line.get("gauge/swap_gap") is not None]
    print("\nswap gap on held-out photos (0: the references are ignored), its 95 % interval, and collapse:")
    for line in gauges:
        low, high, collapse = (line[f"gauge/{name}"] for name in ("swap_gap_low", "swap_gap_high", "collapse"))
        print(f"  step {line['step']:>4}: {line['gauge/swap_gap']:+.4f} ({low:+.4f} to {high:+.4f}), {collapse:.2f}")
    _, _, adapter, about = load_run(run.output)
    file = folder / "export" / default_name(run.adapter.kind, "diffusers")
    written = write(run, adapter, about, "diffusers", str(file))
    grids = sorted(folder.rglob("*.png"))
    print(f"curves  {draw_curves(folder)}")
    for grid in grids:
        print(f"grid    {grid}")
    print(f"weights {written.path}: loaded back by diffusers, max |difference| {written.difference:.1e}")
    return 0 if written.difference <= LIMIT else 1
