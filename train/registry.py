"""The experiments that come with the repository: one run file each, under configs/train. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl.config import read, validated
from shards.encoders.config import BaseConfig
from train.adapters.settings import DreamBoothSettings, LoraSettings, PictureLossSettings, PulidSettings
from train.config import TrainRun

CONFIGS = Path(__file__).parents[1] / "configs" / "train"
_TINY_PX = 32


@dataclass(frozen=True, slots=True)
class Experiment:
    """A run file and what it is about."""

    path: Path
    run: TrainRun

    @property
    def name(self) -> str:
        """Its path under configs/train, without the ending."""
        return self.path.relative_to(CONFIGS).with_suffix("").as_posix()

    @property
    def about(self) -> str:
        """First line."""
        return self.run.about.strip().partition("\n")[0]


def load(path: str, overrides: list[str]) -> TrainRun:
    """A run file of training. Raises InputError naming file and field."""
    return validated(TrainRun, read(path, overrides, TrainRun.model_fields), path)


def experiments() -> list[Experiment]:
    """All that are shipped, by name. Raises InputError for one that is wrong."""
    return [Experiment(path, load(str(path), [])) for path in sorted(CONFIGS.rglob("*.yaml"))]


def on_tiny(run: TrainRun) -> TrainRun:
    """The same method and settings on the tiny base, small and short: two steps of two samples, float32."""
    adapter: dict[str, Any] = {"weights": None}
    if isinstance(getattr(run.adapter, "lora", None), LoraSettings):
        adapter["lora"] = LoraSettings(rank=2)
    if isinstance(run.adapter, PictureLossSettings):
        adapter |= {n: "tiny" for n in ("pose_network", "clip_model") if getattr(run.adapter, n) is not None}
    if isinstance(run.adapter, DreamBoothSettings):
        adapter |= {"prior_images": 2, "prior_steps": 2}
    if isinstance(run.adapter, PulidSettings):
        trial = {"weights": None, "recogniser": "random", "faces": "centre"}
        adapter["lightning"] = run.adapter.lightning.model_copy(update=trial)
    loop = {
        "steps": 2, "batch_size": 2, "micro_batch": None, "precision": "fp32", "compile": False, "channels_last": False,
        "gauge_samples": 2, "fit_vae_steps": min(run.loop.fit_vae_steps, 2), "wandb_project": None,
    }  # fmt: skip
    return run.model_copy(
        update={
            "base": BaseConfig(seed=run.base.seed),
            "data": run.data.model_copy(update={"size_px": _TINY_PX}),
            "adapter": run.adapter.model_copy(update=adapter),
            "loop": run.loop.model_copy(update=loop),
            "init_from": None,
        }
    )
