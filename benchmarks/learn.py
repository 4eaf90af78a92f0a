"""`python -m benchmarks.learn [SYSTEM …]`: does each adapter family learn who is who, from scratch, on a CPU?

Builds shards from the shared real photos, trains each system on the tiny base (UNet and all) within the same budget
of steps, and prints its gauges on held-out photos of the same people: the swap gap with its 95 % interval, and
collapse. `--curves FILE.png` keeps the curves. The photos stay where they are; nothing that shows a person is kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared_photos import default_folder

SYSTEMS: dict[str, dict[str, Any]] = {
    "ip_adapter base": {"kind": "ip_adapter", "encoder": "base"},
    "ip_adapter faceid": {"kind": "ip_adapter", "encoder": "faceid"},
    "photomaker v1": {"kind": "photomaker", "version": "v1", "train_clip": True, "lora": {"rank": 4}},
    "photomaker v2": {"kind": "photomaker", "version": "v2", "lora": {"rank": 4}},
    "split_prompt, background": {"kind": "split_prompt", "version": "v2", "lora": {"rank": 4}},
    "split_prompt, sequential": {
        "kind": "split_prompt",
        "version": "v2",
        "lora": {"rank": 4},
        "parts": ["background", "body"],
        "order": "sequential",
    },
}
Curve = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of: {'; '.join(SYSTEMS)}")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--curves", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    wanted = arguments.systems or list(SYSTEMS)
    os.environ.setdefault("PERSONAE_CACHE", str(default_folder() / "models"))
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(folder)
        curves = {}
        print("| system | steps | minutes | held-out loss | swap gap | 95 % interval | collapse |")
        print("|---|---:|---:|---:|---:|---|---:|", flush=True)
        for name in wanted:
            began = time.monotonic()
            curves[name] = learn(SYSTEMS[name], dataset, f"{folder}/{name}", arguments.steps)
            print(row(name, curves[name][-1], (time.monotonic() - began) / 60), flush=True)
    if arguments.curves:
        plot(curves, arguments.curves)


def make_dataset(folder: str) -> str:
    """Shards of everybody in the shared photos with two photos or more, 64 px."""
    from crawl.config import CrawlConfig, ShardLayout
    from filter.config import FilterConfig
    from shards.build import build
    from shards.config import BuildRun, EngineConfig

    run = BuildRun(
        output=f"{folder}/dataset",
        crawl=CrawlConfig.model_validate({"root": str(default_folder() / "photos" / "identities")}),
        filter=FilterConfig(models="open", min_side_px=120, min_face_px=48, size_px=64, face_size_px=64),
        shards=ShardLayout(buckets=2),
        engine=EngineConfig(cpus=1),
    )
    build(run)
    return run.output


def learn(adapter: dict[str, Any], dataset: str, output: str, steps: int) -> Curve:
    """Train; the gauges' lines of its log."""
    from train.config import TrainRun
    from train.log import read_metrics
    from train.run import train

    run = TrainRun.model_validate(
        {
            "output": output,
            "data": {"dataset": dataset, "holdout": 0.25, "drop": {"text": 0.0, "identity": 0.05, "both": 0.05}},
            "base": {"family": "tiny", "face": "open"},
            "adapter": adapter,
            "optim": {"lr": 1e-3, "warmup_steps": 50, "schedule": "cosine"},
            "loop": {
                "steps": steps,
                "batch_size": 16,
                "train_unet": True,
                "fit_vae_steps": 300,
                "gauges_every": max(1, steps // 10),
                "gauge_samples": 48,
                "log_every": 50,
                "save_every": steps,
            },
        }
    )
    code = train(run)
    assert code == 0, f"training ended with {code}"
    return [line for line in read_metrics(Path(output)) if "gauge/loss" in line]


def row(name: str, last: dict[str, Any], minutes: float) -> str:
    low, high = last["gauge/swap_gap_low"], last["gauge/swap_gap_high"]
    numbers = f"{last['gauge/loss']:.4f} | {last['gauge/swap_gap']:.5f} | {low:.5f} to {high:.5f}"
    return f"| {name} | {last['step']} | {minutes:.1f} | {numbers} | {last['gauge/collapse']:.2f} |"


def plot(curves: dict[str, Curve], path: Path) -> None:
    """Swap gap with its interval, and collapse, over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (gap, collapse) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, lines in curves.items():
        steps = [line["step"] for line in lines]
        gap.plot(steps, [line["gauge/swap_gap"] for line in lines], label=name)
        bounds = ([line[f"gauge/swap_gap_{end}"] for line in lines] for end in ("low", "high"))
        gap.fill_between(steps, *bounds, alpha=0.15)
        collapse.plot(steps, [line["gauge/collapse"] for line in lines], label=name)
    gap.axhline(0, color="black", linewidth=0.8)
    collapse.axhline(0.9, color="black", linewidth=0.8, linestyle="--")
    gap.set(title="swap gap on held-out photos, 95 % interval", xlabel="step", ylabel="loss, others − own references")
    collapse.set(title="collapse: mean cosine between people", xlabel="step", ylim=(-0.3, 1.02))
    gap.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
