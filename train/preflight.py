"""What can be known to be wrong before any model loads. Each is one line that names the field."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from crawl.errors import InputError
from crawl.output import Output
from shards.format.index import INDEX
from train.adapters import adapter_class
from train.adapters.settings import LightningSettings, PulidSettings
from train.config import TrainRun
from train.export.check import check_exportable


def check(run: TrainRun) -> None:
    """Raises InputError for the first thing wrong."""
    check_exportable(run)
    for problem in chain(_of_the_loop(run), _of_the_adapter(run), _of_files(run)):
        raise InputError(problem)


def check_dataset(run: TrainRun) -> None:
    """Raises InputError when there is none."""
    if not Output(run.data.dataset).exists(INDEX):
        missing = f"no dataset here ({INDEX} is missing)"
        raise InputError(f"data.dataset: {run.data.dataset}: {missing}: python -m shards build makes one")


def _of_the_loop(run: TrainRun) -> Iterator[str]:
    loop, tiny = run.loop, run.base.family == "tiny"
    if loop.micro_batch is not None and loop.micro_batch > loop.batch_size:
        yield f"loop.micro_batch: {loop.micro_batch} is more than loop.batch_size ({loop.batch_size})"
    if loop.fit_vae_steps and not tiny:
        yield f"loop.fit_vae_steps: the VAE of {run.base.family} is not random: only tiny's is fitted"
    if loop.fit_vae_steps and run.data.features == "cached":
        yield "data.features: cached latents are not those of the VAE that loop.fit_vae_steps makes"
    if run.loss.zero_terminal_snr and tiny and not loop.train_unet and run.init_from is None:
        yield "loss.zero_terminal_snr: tiny predicts noise: it needs loop.train_unet to learn v"
    if loop.wandb_project is not None and importlib.util.find_spec("wandb") is None:
        yield "loop.wandb_project: `wandb` is not installed"


def _of_the_adapter(run: TrainRun) -> Iterator[str]:
    settings = run.adapter
    needs = adapter_class(settings.kind).needs(settings)
    if settings.kind == "none" and not run.loop.train_unet:
        yield "loop.train_unet: adapter none has nothing to train; set it, or name an adapter"
    most = getattr(settings, "max_references", None)
    if most is not None and run.data.references[1] > most:
        yield f"data.references: up to {run.data.references[1]}, but adapter.max_references is {most}"
    if needs.one_person and len(run.data.identities) != 1:
        named = len(run.data.identities)
        yield f"data.identities: {settings.kind} is trained for one person: name one key, not {named}"
    if settings.kind == "dreambooth" and (settings.lora is None) != run.loop.train_unet:
        yield "loop.train_unet: dreambooth trains LoRA (adapter.lora) or the UNet itself: one of the two"
    if needs.clip and run.base.family != "tiny" and run.base.clip is None:
        yield f"base.clip: {settings.kind} looks at reference photos: name a CLIP vision tower"
    if isinstance(settings, PulidSettings) and settings.lightning.is_used:
        yield from _of_lightning(run, settings.lightning)
    if needs.face and run.base.face == "insightface" and run.base.accept_licence is None:
        yield "base.accept_licence: face embeddings of insightface are non-commercial: name the licence accepted"


def _of_lightning(run: TrainRun, lightning: LightningSettings) -> Iterator[str]:
    if lightning.id_weight and lightning.recogniser == "face" and run.base.face == "embedded":
        yield "base.face: embedded: the ID loss needs a network that gradients pass through: open, or insightface"
    weights = lightning.weights
    if weights is not None and weights.startswith(("/", ".", "~")) and not Path(weights).exists():
        yield f"adapter.lightning.weights: {weights}: no such file or folder"


def _of_files(run: TrainRun) -> Iterator[str]:
    if "://" in run.output:
        yield f"output: {run.output}: a training run writes to a folder, not to a URL"
    if run.adapter.weights is not None and not Path(run.adapter.weights).is_file():
        yield f"adapter.weights: {run.adapter.weights}: no such file"
    if run.init_from is not None and not Path(run.init_from).is_dir():
        yield f"init_from: {run.init_from}: no such folder"
    weights = run.base.weights
    if weights is not None and weights.startswith(("/", ".", "~")) and not Path(weights).is_dir():
        yield f"base.weights: {weights}: no such folder"
