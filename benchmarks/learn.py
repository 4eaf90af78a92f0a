"""`python -m benchmarks.learn [SYSTEM …]`: does each adapter family learn who is who, from scratch, on a CPU?

Builds shards from the shared real photos, encodes what frozen encoders say of them, trains each system on the tiny
base (UNet and all), and prints its gauges on held-out photos of the same people: the swap gap with its 95 % interval
over people, and collapse. Nothing that shows a person is kept: numbers only, in `--keep`, so that the same command
goes on after a stop. `--curves FILE.png` draws them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared_photos import default_folder, known_photos

_OWN = {"identity_path": "attention", "lora": None}
"""Identity through an attention of its own: through the class token alone (`text`) it takes longer."""
SYSTEMS: dict[str, dict[str, Any]] = {
    "ip_adapter base": {"kind": "ip_adapter", "encoder": "base"},
    "ip_adapter plus": {"kind": "ip_adapter", "encoder": "plus"},
    "ip_adapter faceid": {"kind": "ip_adapter", "encoder": "faceid"},
    "photomaker v1": {"kind": "photomaker", "version": "v1", "train_clip": True, **_OWN},
    "photomaker v2": {"kind": "photomaker", "version": "v2", "face_norm": 11, **_OWN},
    "split_prompt parallel": {
        "kind": "split_prompt", "version": "v2", "face_norm": 11, "parts": ["background", "body"], **_OWN,
    },
    "split_prompt sequential": {
        "kind": "split_prompt", "version": "v2", "face_norm": 11, "parts": ["background", "body"],
        "order": "sequential", **_OWN,
    },
    "pulid": {"kind": "pulid", "version": "v1.1", "face_norm": 11},
    "photomaker v2, text": {"kind": "photomaker", "version": "v2", "face_norm": 11, "lora": {"rank": 4}},
}  # fmt: skip
GROUP_LR = {
    "base": {"image_proj": 1e-3, "ip_kv": 6e-3},
    "faceid": {"image_proj": 6e-3, "ip_kv": 6e-3},
    "plus": {"image_proj": 1e-3, "ip_kv": 6e-3},
    "v1": {"clip": 1e-3, "projections": 4e-3, "kv": 6e-3},
    "v2": {"projections": 2e-3, "kv": 6e-3},
    "v1.1": {"id_encoder": 1e-3, "id_kv": 6e-3},
    "text": {"projections": 2e-3, "fuse": 6e-3},
}
"""New modules begin at nothing and have few steps to become something. Deep ones (a resampler) collapse at 6e-3."""
DROP = {
    "ip_adapter": {"text": 0.3, "identity": 0.05, "both": 0.05},
    "pulid": {"text": 0.3, "identity": 0.05, "both": 0.05},
    "photomaker": {"text": 0, "identity": 0.05, "both": 0.1},
    "split_prompt": {"text": 0, "identity": 0.05, "both": 0.1},
}
"""PhotoMaker drops text and identity together, or identity alone."""
FEATURES = (
    "face",
    "clip_last",
    "clip_penultimate",
    "clip_pooled",
    "clip_scales",
    "text_general",
    "text_background",
    "text_body",
)
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
    print("| system | steps | CPU minutes | held-out loss | swap gap | 95 % interval | collapse |")
    print("|---|---:|---:|---:|---:|---|---:|", flush=True)
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
    wanted = settings(SYSTEMS[name], "dataset", "run", steps)
    if file.exists() and (kept := json.loads(file.read_text()))["settings"] == json.loads(json.dumps(wanted)):
        return dict(kept)
    if not (folder / "dataset").exists():
        make_dataset(str(folder))
    began = time.process_time()
    lines = learn(SYSTEMS[name], str(folder / "dataset"), str(folder / name), steps)
    made = {"settings": wanted, "cpu_minutes": (time.process_time() - began) / 60, "lines": lines}
    keep.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=0) + "\n")
    return made


def make_dataset(folder: str, min_face_share: float = 0.4) -> str:
    """Shards of everybody with three shared photos or more: faces close up, 64 px; what frozen encoders say beside.

    Copies and near-duplicates are left out: a copy of a training photo is not held out.
    """
    from crawl.config import CrawlConfig, ShardLayout
    from filter.config import FilterConfig
    from shards.build import build
    from shards.config import BuildRun, EngineConfig

    _copy_photos(Path(folder) / "photos")
    run = BuildRun(
        output=f"{folder}/dataset",
        crawl=CrawlConfig.model_validate({"root": f"{folder}/photos"}),
        filter=FilterConfig(
            models="open", min_side_px=120, min_face_px=48, size_px=64, face_size_px=64, min_face_share=min_face_share,
            verify={"min_photos": 3},
        ),
        shards=ShardLayout(buckets=2),
        engine=EngineConfig(cpus=1),
    )  # fmt: skip
    build(run)
    _encode(run.output)
    return run.output


def _copy_photos(folder: Path) -> None:
    for photo in known_photos(default_folder(), "open"):
        (folder / photo.key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(default_folder() / "photos" / "identities" / photo.key, folder / photo.key)


def _encode(dataset: str) -> None:
    from shards.encoders.config import EncodeRun
    from shards.features.encode import encode

    run = {"data": {"dataset": dataset}, "base": {"face": "open"}, "encode": {"features": FEATURES}}
    for _ in encode(EncodeRun.model_validate(run), _Silent()):
        pass


class _Silent:
    def expect(self, stage: str, photos: int, /) -> None:
        pass

    def tick(self, stage: str, photos: int, /) -> None:
        pass


def settings(adapter: dict[str, Any], dataset: str, output: str, steps: int) -> dict[str, Any]:
    """The run file of one system."""
    text = adapter["kind"] == "photomaker" and "identity_path" not in adapter
    group_lr = GROUP_LR["text" if text else adapter.get("encoder") or adapter["version"]]
    return {
        "output": output,
        "data": {"dataset": dataset, "holdout": 0.3, "references": [2, 4], "drop": DROP[adapter["kind"]]},
        "base": {"face": "open"},
        "adapter": adapter,
        "optim": {
            "lr": 2e-3,
            "group_lr": group_lr,
            "warmup_steps": 30,
            "schedule": "cosine",
            "weight_decay": 0.0,
        },
        "loss": {"zero_terminal_snr": True},
        "loop": {
            "steps": steps,
            "batch_size": 8,
            "train_unet": True,
            "fit_vae_steps": 200,
            "gauges_every": max(1, steps // 4),
            "gauge_samples": 56,
            "log_every": 50,
            "save_every": steps,
        },
        "samples": {"identities": 1, "steps": 1},
    }


def learn(adapter: dict[str, Any], dataset: str, output: str, steps: int) -> Curve:
    """Train; the gauges' lines of its log. SystemExit for a run that was stopped: half a curve is not kept."""
    from train.config import TrainRun
    from train.log import read_metrics
    from train.run import train

    run = TrainRun.model_validate(settings(adapter, dataset, output, steps))
    code = train(run)
    assert code == 0, f"training ended with {code}"
    lines = [line for line in read_metrics(Path(output)) if "gauge/loss" in line]
    if lines[-1]["step"] < steps:
        raise SystemExit(f"stopped after step {lines[-1]['step']} of {steps}")
    return lines


def row(name: str, last: dict[str, Any], minutes: float) -> str:
    low, high = last["gauge/swap_gap_low"], last["gauge/swap_gap_high"]
    numbers = f"{last['gauge/loss']:.4f} | {last['gauge/swap_gap']:+.4f} | {low:+.4f} to {high:+.4f}"
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
