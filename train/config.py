"""A training run file: frozen, unknown keys forbidden, checked before any model loads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crawl.settings import Settings
from shards.encoders.config import BaseConfig
from train.adapters.settings import AdapterSettings
from train.evaluate.settings import ScheduledSettings


class DropConfig(Settings):
    """Chances, per sample, of training without a condition. `text`, `identity` and `both` exclude each other."""

    text: float = Field(0.05, ge=0, le=1, description="The whole prompt is left out.")
    identity: float = Field(0.05, ge=0, le=1, description="The references are left out.")
    both: float = Field(0.05, ge=0, le=1, description="Prompt and references are left out together.")
    parts: float = Field(0.0, ge=0, le=1, description="Background and body part, each by a coin of its own.")

    @model_validator(mode="after")
    def _at_most_one(self) -> DropConfig:
        if self.text + self.identity + self.both > 1:
            raise ValueError("text + identity + both exceed 1")
        return self


class DataConfig(Settings):
    """Which shards, and how samples are drawn from them."""

    dataset: str = Field(min_length=1, description="Dataset folder, or any URL fsspec can open.")
    features: Literal["auto", "cached", "online"] = Field(
        "auto", description="Encoded by `python -m shards encode`, or here; `auto`: cached where they are."
    )
    size_px: int | None = Field(None, ge=32, description="Side the target is resized to; default: the shards' own.")
    references: tuple[int, int] = Field((1, 4), description="Least and most references a sample, drawn uniformly.")
    holdout: float = Field(
        0.0, ge=0, lt=1, description="Share of each identity's photos kept from training: for gauges and grids."
    )
    identities: tuple[str, ...] = Field(
        (), description="Train on these people only, by their keys; empty: on all. DreamBooth and such take one."
    )
    holdout_people: float = Field(
        0.0, ge=0, lt=1, description="Share of the people kept from training altogether: `evaluate`'s out_of_train set."
    )
    drop: DropConfig = DropConfig()
    masked_loss: float = Field(
        0.0, ge=0, le=1, description="Chance, per sample, that the loss counts in the face only."
    )
    on_bad_shard: Literal["raise", "skip"] = Field("raise", description="`skip` counts, and fails above 0.1 %.")
    prefetch: int = Field(2, ge=0, description="Batches made ahead, in a thread.")

    @model_validator(mode="after")
    def _a_range(self) -> DataConfig:
        least, most = self.references
        if not 1 <= least <= most <= 16:
            raise ValueError("references: 1 ≤ least ≤ most ≤ 16")
        return self


class OptimConfig(Settings):
    """Optimiser and schedule; steps are optimiser steps, whatever the number of processes."""

    name: Literal["adamw", "adam"] = Field("adamw", description="Fused where the device can.")
    lr: float = Field(1e-4, gt=0, description="Learning rate.")
    group_lr: dict[str, float] = Field({}, description="Learning rate of named groups, such as `lora`.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled (adamw only).")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Of the running means.")
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up.")
    schedule: Literal["constant", "cosine", "linear"] = Field("constant", description="After the warm-up, to `steps`.")
    max_grad_norm: float | None = Field(1.0, gt=0, description="Clipping; null: none.")


class LossConfig(Settings):
    """Of the diffusion loss."""

    min_snr_gamma: float | None = Field(None, gt=0, description="Min-SNR weighting; 5 is usual.")
    noise_offset: float = Field(0.0, ge=0, description="Adds a per-channel constant of this size to the noise.")
    zero_terminal_snr: bool = Field(False, description="Rescale betas so that the last step is pure noise.")


class LoopConfig(Settings):
    """The loop itself."""

    steps: int = Field(ge=1, description="Optimiser steps.")
    batch_size: int = Field(ge=1, description="Samples of a whole optimiser step: all processes and micro-batches.")
    micro_batch: int | None = Field(None, ge=1, description="Samples at a time on one device; default: all of them.")
    seed: int = Field(0, ge=0, description="Of every random choice.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the frozen base; adapters are always fp32.")
    train_unet: bool = Field(False, description="Train the whole UNet too: `tiny` from scratch, or full fine-tuning.")
    fit_vae_steps: int = Field(0, ge=0, description="`tiny`: steps its random VAE is fitted to the photos beforehand.")
    ema: float | None = Field(None, gt=0, lt=1, description="Decay of the running mean of trained weights.")
    log_every: int = Field(10, ge=1, description="Steps between log lines.")
    save_every: int = Field(500, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Latest checkpoints kept.")
    gauges_every: int = Field(100, ge=1, description="Steps between identity-signal gauges.")
    gauge_samples: int = Field(16, ge=2, description="Held-out samples of a gauge; all identities in turn.")
    gradient_checkpointing: bool = Field(False, description="Less memory, about half as much again to compute.")
    channels_last: bool = Field(False, description="Memory format of the UNet.")
    compile: bool = Field(False, description="Regional torch.compile of the transformer blocks.")
    wandb_project: str | None = Field(None, description="Log to this Weights & Biases project too; needs `wandb`.")


class SamplesConfig(Settings):
    """Sample grids on a schedule: references, prompt, generated."""

    every: int | None = Field(None, ge=1, description="Steps between grids; null: one at the end.")
    prompts: tuple[str, ...] = Field((), description="Empty: the held-out photos' own captions.")
    identities: int = Field(4, ge=1, description="Rows.")
    steps: int = Field(20, ge=1, description="Denoising steps.")
    guidance: float = Field(5.0, ge=1, description="Classifier-free guidance.")
    merge_step: int = Field(0, ge=0, description="Identity enters from this denoising step (PhotoMaker: 10 of 50).")


class TrainRun(Settings):
    """A run file of `python -m train`."""

    about: str = Field("", description="What this experiment reproduces and where it must differ; `--list` shows it.")
    output: str = Field(min_length=1, description="Folder of checkpoints, logs, grids and config.resolved.yaml.")
    data: DataConfig
    base: BaseConfig = BaseConfig()
    adapter: AdapterSettings = Field(description="The method: `kind` names it, its own keys stand beside.")
    optim: OptimConfig = OptimConfig()
    loss: LossConfig = LossConfig()
    loop: LoopConfig
    samples: SamplesConfig = SamplesConfig()
    evaluate: ScheduledSettings = ScheduledSettings()
    export: Literal["native", "diffusers", "comfyui", "photomaker", "pulid"] = Field(
        "native", description="A format the weights must be exportable to; refused before training when they are not."
    )
    init_from: str | None = Field(
        None, description="Run folder or checkpoint whose trained weights this run begins with."
    )
