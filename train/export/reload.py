"""A written file loaded back in its target, and the UNet called there with the same inputs as here.

diffusers: its own pipeline loads the file. Every other format: the adapter begins anew and reads the file itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_log
from torch import Tensor
from transformers.utils import logging as transformers_log

from train.adapters import load_adapter
from train.adapters.adapter import Adapter, Conditions
from train.adapters.ip_adapter import IpAdapter
from train.adapters.published import load_into, read_weights
from train.adapters.textual_inversion import TextualInversion
from train.base_models import Base
from train.data.batch import Batch
from train.export.learned_word import with_word
from train.export.probe import probe
from train.step import denoise
from train.trained import unet_parameters

_TIMESTEPS = (3, 500)
_LOGS: tuple[Any, ...] = (diffusers_log, transformers_log)


@torch.no_grad()
def greatest_difference(adapter: Adapter, path: str, format: str) -> float:
    """max |difference| of the UNet's output between `adapter` and what its target makes of the file, on a probe."""
    base = adapter.base
    for module in (base.unet, base.text, base.vae):  # in bf16 nothing could be told apart
        module.float()
    most = getattr(adapter.settings, "max_references", 2)
    batch = probe(base, adapter.needs(adapter.settings), references=min(2, most))
    there = _in_diffusers if format == "diffusers" else _anew
    return float((_predict(adapter, batch) - there(adapter, path, format)(batch)).abs().max())


def _predict(adapter: Adapter, batch: Batch) -> Tensor:
    return denoise(adapter.base, batch.latents, _timesteps(batch), adapter.conditions(batch))


def _anew(adapter: Adapter, path: str, format: str) -> Callable[[Batch], Tensor]:
    """A new adapter of the same settings on the bare base, begun from the file."""
    bare = dataclasses.replace(adapter.base, unet=bare_unet(adapter.base, adapter))
    settings = adapter.settings.model_copy(update={"weights": None, "seed": adapter.settings.seed + 1})
    again = load_adapter(settings, bare).to(bare.device).eval()
    if format == "native":
        load_into(again, read_weights(path), path)
    else:
        again.load_weights(path)
    return lambda batch: _predict(again, batch)


def _in_diffusers(adapter: Adapter, path: str, format: str) -> Callable[[Batch], Tensor]:
    """The file in a diffusers pipeline, by its own loader."""
    base, file = adapter.base, Path(path)
    unet = bare_unet(base, adapter)
    read: Callable[[Batch], Conditions] = adapter.conditions
    with _quiet():
        pipeline = _pipeline(base, unet)
        if isinstance(adapter, IpAdapter):
            pipeline.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
        elif isinstance(adapter, TextualInversion):
            read = with_word(pipeline, path, adapter.settings.placeholder_token)
        else:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name)

    def predict(batch: Batch) -> Tensor:
        conditions = read(batch)
        added: dict[str, Any] = {}
        if isinstance(adapter, IpAdapter):
            added["image_embeds"] = [adapter.features(batch).float()]
        if base.has_time_ids:
            added |= {"text_embeds": conditions.pooled, "time_ids": conditions.time_ids}
        output: Tensor = unet(
            batch.latents, _timesteps(batch), encoder_hidden_states=conditions.text, added_cond_kwargs=added
        ).sample
        return output

    return predict


def bare_unet(base: Base, adapter: Adapter) -> UNet2DConditionModel:
    """The base's UNet without anything that the adapter put into it; weights are shared, not copied."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(base.unet.config)
    unet.load_state_dict(unet_parameters(base, adapter), assign=True)
    return unet.eval()


def _pipeline(base: Base, unet: UNet2DConditionModel) -> Any:
    schedule = type(base.schedule).from_config(base.schedule.config, steps_offset=1)  # unused; else it complains
    parts = {"vae": base.vae.model, "unet": unet, "scheduler": schedule}
    names = ("", "_2")[: len(base.text.tokenizers)]
    for name, tokenizer, model in zip(names, base.text.tokenizers, base.text.models, strict=True):
        parts |= {f"tokenizer{name}": tokenizer, f"text_encoder{name}": model}
    if base.has_time_ids:
        return StableDiffusionXLPipeline(**parts)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' remarks on what is not in the file, and need not be, and on how a new word begins."""
    before = [library.get_verbosity() for library in _LOGS]
    for library in _LOGS:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, verbosity in zip(_LOGS, before, strict=True):
            library.set_verbosity(verbosity)


def _timesteps(batch: Batch) -> Tensor:
    return torch.tensor(_TIMESTEPS, device=batch.latents.device)
