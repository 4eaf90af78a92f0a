"""`python -m benchmarks.pulid_stages`: what each of PuLID's three stages changes, from scratch, on a CPU.

Trains them in a chain on the tiny base over shards of the shared real photos, φ = MobileFaceNet-ArcFace on the middle
of the picture, and measures every checkpoint on held-out photos with fixed noise: cosine of faces drawn in four steps
to the references, alignment with the path without identity. `--curves FILE.png` keeps the curves. The photos stay
where they are; nothing that shows a person is kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.learn import make_dataset
from benchmarks.shared_photos import default_folder

PROMPTS = ["a photo of a man outdoors", "a photo of a woman in a dark room", "a portrait of a person by a window"]
TRIAL = {"faces": "centre", "prompts": PROMPTS}
WEIGHTS: dict[int, dict[str, float]] = {
    1: {},
    2: {"id_weight": 1.0},
    3: {"id_weight": 1.0, "semantic_weight": 0.6, "layout_weight": 0.1},
}
CHECKPOINTS = 3
"""Of a stage."""
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="shards; default: made of the shared photos")
    parser.add_argument("--steps", type=int, nargs=3, default=[600, 150, 150], help="of each stage")
    parser.add_argument("--size-px", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32, help="held-out photos")
    parser.add_argument("--folder", help="keeps the runs, and goes on with them; default: nothing is kept")
    parser.add_argument("--curves", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    os.environ.setdefault("PERSONAE_CACHE", str(default_folder() / "models"))
    rows: list[Row] = []
    print("| stage | step | cosine to the references | cosine to others | semantic | layout | diffusion loss |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    with nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory() as folder:
        dataset = arguments.dataset or make_dataset(folder)
        for stage, steps in enumerate(arguments.steps, start=1):
            for path in train_stage(stage, steps, dataset, folder, arguments.size_px):
                rows.append({"stage": stage, "step": int(path.name.split("-")[-1]), **measure(path, arguments.samples)})
                print(line(rows[-1]), flush=True)
    if arguments.curves:
        plot(rows, arguments.steps, arguments.curves)


def train_stage(stage: int, steps: int, dataset: str, folder: str, size_px: int) -> list[Path]:
    """Its checkpoints, in order."""
    from train.checkpoint import folders
    from train.config import TrainRun
    from train.run import train

    loop = {
        "steps": steps,
        "batch_size": 8,
        "log_every": 25,
        "gauges_every": steps,
        "save_every": -(-steps // CHECKPOINTS),
    }
    scratch = {"train_unet": True, "fit_vae_steps": 150}
    run = TrainRun.model_validate(
        {
            "output": f"{folder}/stage-{stage}",
            "init_from": None if stage == 1 else f"{folder}/stage-{stage - 1}",
            "data": {"dataset": dataset, "size_px": size_px, "references": [1, 1], "holdout": 0.25},
            "base": {"family": "tiny", "face": "open"},
            "adapter": {"kind": "pulid", "version": "v1", "lightning": {**TRIAL, **WEIGHTS[stage]}},
            "optim": {
                "lr": 2e-3 if stage == 1 else 3e-3,
                "warmup_steps": 10,
                "schedule": "cosine",
                "weight_decay": 0.0,
            },
            "loop": {**loop, "keep_checkpoints": CHECKPOINTS + 1, **(scratch if stage == 1 else {})},
            "samples": {"steps": 4, "identities": 2, "guidance": 1},
        }
    )
    code = train(run)
    assert code == 0, f"training ended with {code}"
    return folders(Path(run.output))


def measure(checkpoint: Path, samples: int) -> dict[str, float]:
    """Means over held-out photos, with the same noise and prompts for every checkpoint."""
    import torch

    from train.checkpoint import load_run
    from train.config import LossConfig
    from train.data.dataset import TrainData
    from train.data.draws import Draws
    from train.step import draw_step

    run, base, adapter, _ = load_run(str(checkpoint))
    lightning = run.adapter.lightning.model_copy(update={**WEIGHTS[3], "steps": 4})
    adapter.settings = run.adapter.model_copy(update={"lightning": lightning})
    draws = Draws(0)
    source = TrainData(run.data, type(adapter).needs(adapter.settings), base, draws)
    batch = source.held_out(samples)
    with torch.no_grad():
        step = draw_step(base, batch, draws, LossConfig())
        terms = {name: float(term.per_sample.mean()) for name, term in adapter.losses(step).items()}
        others = adapter.branch.cosines(step, adapter.branch.targets(source.swapped(batch)))
    return {"cosine": 1 - terms.pop("id"), "others": float(others.mean()), **terms}


def line(row: Row) -> str:
    numbers = [f"{row[name]:.4f}" for name in ("cosine", "others", "semantic", "layout", "diffusion")]
    return " | ".join([f"| {row['stage']}", str(row["step"]), *numbers]) + " |"


def plot(rows: list[Row], steps: list[int], path: Path) -> None:
    """Cosines and alignment over the steps of all stages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    places = [sum(steps[: row["stage"] - 1]) + row["step"] for row in rows]
    for panel, names in zip(panels, (("cosine", "others"), ("semantic", "layout")), strict=True):
        for name in names:
            panel.plot(places, [row[name] for row in rows], marker="o", label=name)
        for end in (steps[0], steps[0] + steps[1]):
            panel.axvline(end, color="black", linewidth=0.8, linestyle="--")
        panel.set(xlabel="step; dashed: stages 1 | 2 | 3")
        panel.legend(fontsize=8)
    panels[0].set_title("faces drawn from noise: cosine to the references, to others' ones")
    panels[1].set_title("alignment losses")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
