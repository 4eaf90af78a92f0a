"""`python -m benchmarks.pulid_stages`: what each of PuLID's three stages changes, from scratch, on a CPU.

Trains them in a chain on the tiny base over shards of the shared real photos, φ = MobileFaceNet-ArcFace on the face
that the detector finds, and measures every checkpoint on held-out photos with fixed noise: cosine of faces drawn in
four steps to the references, alignment with the path without identity. Says of each stage what it changed, with
95 % intervals over people. `--curves FILE.png` keeps the curves. The photos stay where they are; nothing that shows a
person is kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.learn_data import make_dataset
from benchmarks.shared_photos import default_folder

PROMPTS = ["a photo of a man outdoors", "a photo of a woman in a dark room", "a portrait of a person by a window"]
TRIAL = {"faces": "detected", "prompts": PROMPTS}
ALL_ON = {"id_weight": 1.0, "semantic_weight": 1.0, "layout_weight": 1.0}
GROUP_LR = {1: {"id_encoder": 1e-3, "id_kv": 6e-3}, 2: {"id_encoder": 2e-4, "id_kv": 1e-3}}
CHECKPOINTS = 3
"""Of a stage."""
NOISES = 8
"""Portraits of a held-out photo, that cosines are means over; alignment is measured with the first noise alone."""
COLUMNS = ("faces", "cosine", "others", "semantic", "layout", "diffusion")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="shards; default: made of the shared photos")
    parser.add_argument("--steps", type=int, nargs=3, default=[1500, 600, 150], help="of each stage")
    parser.add_argument(
        "--alignment",
        type=float,
        nargs=2,
        default=[0.06, 0.01],
        metavar=("SEMANTIC", "LAYOUT"),
        help="weights of stage 3; the paper's are 0.6 0.1",
    )
    parser.add_argument("--size-px", type=int, default=32)
    parser.add_argument("--samples", type=int, default=56, help="held-out photos")
    parser.add_argument("--folder", help="keeps the runs, and goes on with them; default: nothing is kept")
    parser.add_argument("--curves", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    os.environ.setdefault("PERSONAE_CACHE", str(default_folder() / "models"))
    rows: list[Row] = []
    print("| stage | step | faces found | cosine to the references | to others' | semantic | layout | diffusion loss |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory() as folder:
        dataset = arguments.dataset or make_dataset(folder)
        for stage, steps in enumerate(arguments.steps, start=1):
            for path in train_stage(stage, steps, dataset, folder, arguments.size_px, arguments.alignment):
                rows.append({"stage": stage, "step": int(path.name.split("-")[-1]), **measure(path, arguments.samples)})
                print(line(rows[-1]), flush=True)
        print("\n" + "\n".join([*changes(rows), of_photos(path, arguments.samples)]))
    if arguments.curves:
        plot(rows, arguments.steps, arguments.curves)


def train_stage(
    stage: int, steps: int, dataset: str, folder: str, size_px: int, alignment: list[float]
) -> list[Path]:  # fmt: skip
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
    weights = {
        1: {},
        2: {"id_weight": 1.0},
        3: {"id_weight": 1.0, "semantic_weight": alignment[0], "layout_weight": alignment[1]},
    }
    scratch = {"train_unet": True, "fit_vae_steps": 1500}
    run = TrainRun.model_validate(
        {
            "output": f"{folder}/stage-{stage}",
            "init_from": None if stage == 1 else f"{folder}/stage-{stage - 1}",
            "data": {"dataset": dataset, "size_px": size_px, "references": [1, 1], "holdout": 0.25},
            "base": {"family": "tiny", "face": "open"},
            "adapter": {
                "kind": "pulid",
                "version": "v1.1",
                "face_norm": 11,
                "lightning": {**TRIAL, **weights[stage]},
            },
            "optim": {
                "lr": 2e-3,
                "group_lr": GROUP_LR[min(stage, 2)],
                "warmup_steps": 10,
                "schedule": "cosine",
                "weight_decay": 0.0,
            },
            "loss": {"zero_terminal_snr": True},
            "loop": {**loop, "keep_checkpoints": CHECKPOINTS + 1, **(scratch if stage == 1 else {})},
            "samples": {"steps": 4, "identities": 2, "guidance": 1},
        }
    )
    code = train(run)
    assert code == 0, f"training ended with {code}"
    return folders(Path(run.output))


def measure(checkpoint: Path, samples: int) -> Row:
    """Means over held-out photos, with the same noise and prompts for every checkpoint.

    Beside them `own` [samples × NOISES], each picture's cosine to its references less that to others', `cosines`
    without the latter, and `people`, whose they are.
    """
    import torch

    from train.checkpoint import load_run
    from train.config import LossConfig
    from train.data.dataset import TrainData
    from train.data.draws import Draws
    from train.step import draw_step

    run, base, adapter, _ = load_run(str(checkpoint))
    lightning = run.adapter.lightning.model_copy(update={**ALL_ON, "steps": 4})
    adapter.settings = run.adapter.model_copy(update={"lightning": lightning})
    source = TrainData(run.data, type(adapter).needs(adapter.settings), base, Draws(0))
    batch = source.held_out(samples)
    targets = adapter.branch.targets(batch), adapter.branch.targets(source.swapped(batch))
    with torch.no_grad():
        steps = [draw_step(base, batch, Draws(seed), LossConfig()) for seed in range(NOISES)]
        drawn = [adapter.branch.cosines(step, *targets) for step in steps]
        terms = adapter.losses(steps[0])
    cosines, others = (torch.cat(values) for values in zip(*drawn, strict=True))
    means = {name: float(terms[name].per_sample.mean()) for name in ("faces", "semantic", "layout", "diffusion")}
    means |= {"cosine": float(cosines.mean()), "others": float(others.mean())}
    return {**means, "cosines": cosines, "own": cosines - others, "people": [*batch.identities] * NOISES}


def of_photos(checkpoint: Path, samples: int) -> str:
    """What the held-out photos score when the fitted VAE has coded them: as good as this base can draw a face."""
    import torch

    from filter.config import FilterConfig
    from train.adapters.id_loss import IdLoss, detected
    from train.checkpoint import load_run
    from train.data.dataset import TrainData
    from train.data.draws import Draws
    from train.decoded import decoded
    from train.recognisers import load_recogniser

    run, base, adapter, _ = load_run(str(checkpoint))
    source = TrainData(run.data, type(adapter).needs(adapter.settings), base, Draws(0))
    batch = source.held_out(samples)
    judge = IdLoss(load_recogniser("open", run.base), detected(FilterConfig(models="open")))
    with torch.no_grad():
        images = decoded(base, batch.latents)
        own, others = (
            float(((1 - loss) * found).mean())
            for targets in (adapter.branch.targets(batch), adapter.branch.targets(source.swapped(batch)))
            for loss, found in [judge(images, targets)]
        )
    return f"the photos themselves, through the VAE: cosine to the references {own:.4f}, to others' {others:.4f}"


def line(row: Row) -> str:
    numbers = [f"{row['faces']:.2f}", *(f"{row[name]:.4f}" for name in COLUMNS[1:])]
    return " | ".join([f"| {row['stage']}", str(row["step"]), *numbers]) + " |"


def changes(rows: list[Row]) -> list[str]:
    """What each stage's last checkpoint tells apart, and what it changed, with intervals over people."""
    last = {row["stage"]: row for row in rows}
    lines = [
        f"stage {stage}: cosine to the own references less that to others' {told(row['own'], row['people'])}"
        for stage, row in last.items()
    ]
    lines += [
        f"stage {stage} − stage {stage - 1}: cosine to the references "
        f"{told(row['cosines'] - last[stage - 1]['cosines'], row['people'])}"
        for stage, row in last.items()
        if stage > 1
    ]
    return lines


def told(values: Any, people: list[str]) -> str:
    from train.data.draws import Draws
    from train.gauges import interval

    found = interval("gap", values, people, Draws(0))
    return f"{found['gap']:+.4f} ({found['gap_low']:+.4f} to {found['gap_high']:+.4f})"


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
