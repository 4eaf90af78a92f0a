"""Loading the encoders of a base model: by hub name, from a folder in diffusers' layout, or `tiny`.

Each part is loaded on its own, so that a run holds only what it uses. Raises InputError: one line that names
what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from crawl.errors import InputError, one_line
from filter.config import FilterConfig
from filter.models import embedder_spec, load_embedder, model_names
from shards.encoders import tiny
from shards.encoders.config import BaseConfig
from shards.encoders.pictures import ClipVision, FaceEncoder, Vae
from shards.encoders.text import TextEncoders

Model = TypeVar("Model")
Module = TypeVar("Module", bound=torch.nn.Module)


def load_text(base: BaseConfig) -> TextEncoders:
    """Frozen, in eval mode."""
    if base.family == "tiny":
        tokens = tiny.tokenizer()
        return frozen(TextEncoders([tokens, tokens], tiny.text_models(base.seed, tokens), penultimate=True))
    tokenizers = [part(base, CLIPTokenizer, "tokenizer")]
    models: list[torch.nn.Module] = [part(base, CLIPTextModel, "text_encoder")]
    if base.family == "sdxl":
        tokenizers.append(part(base, CLIPTokenizer, "tokenizer_2"))
        models.append(part(base, CLIPTextModelWithProjection, "text_encoder_2"))
    return frozen(TextEncoders(tokenizers, models, penultimate=base.family == "sdxl"))


def load_vae(base: BaseConfig) -> Vae:
    """Frozen, in eval mode; `vae` in the config replaces the pipeline's."""
    if base.family == "tiny":
        return frozen(Vae(tiny.vae(base.seed)))
    if base.vae is not None:
        what = f"base.vae: {base.vae}"
        return frozen(Vae(loaded(lambda: AutoencoderKL.from_pretrained(base.vae, revision=base.vae_revision), what)))
    return frozen(Vae(part(base, AutoencoderKL, "vae")))


def load_clip(base: BaseConfig) -> ClipVision:
    """Frozen, in eval mode."""
    if base.family == "tiny" and base.clip is None:
        return frozen(ClipVision(tiny.clip_vision(base.seed)))
    if base.clip is None:
        raise InputError("base.clip: this adapter looks at reference photos: name a CLIP vision tower")
    model = loaded(
        lambda: CLIPVisionModelWithProjection.from_pretrained(base.clip, revision=base.clip_revision),
        f"base.clip: {base.clip}",
    )
    return frozen(ClipVision(model))


def load_face(base: BaseConfig) -> FaceEncoder:
    """The face embedder that `base.face` names."""
    config = FilterConfig(
        models="open", embedder=base.face, insightface_pack=base.insightface_pack, accept_licence=base.accept_licence
    )
    pinned = [spec.version for spec in embedder_spec(config).weights]
    return FaceEncoder(load_embedder(config), " ".join(pinned or model_names(config)))


def part(base: BaseConfig, kind: type[Any], subfolder: str) -> Any:
    """One part of the base pipeline, such as its `unet`."""
    keys = {"revision": base.revision}
    if not hasattr(kind, "vocab_files_names"):
        keys["variant"] = base.variant
    what = f"base.weights: {base.weights}/{subfolder}"
    return loaded(lambda: kind.from_pretrained(base.weights, subfolder=subfolder, **keys), what)


def loaded(load: Callable[[], Model], what: str) -> Model:
    """`load()`, its failure as one line that begins with `what`."""
    try:
        return load()
    except (OSError, ValueError) as error:
        raise InputError(f"{what}: cannot be loaded: {one_line(error)[:300]}") from None


def frozen(module: Module) -> Module:
    """Without gradients of its own, in eval mode; gradients still flow through it."""
    return module.requires_grad_(False).eval()
