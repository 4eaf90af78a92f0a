"""What tells two encoders apart: a hash of weights, settings and vocabulary, and a name for people.

Cached features are true only for the encoder that made them. Knows nothing of files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from shards.encoders.config import BaseConfig, DType, FeatureName
from shards.encoders.pictures import ClipVision, FaceEncoder, Vae
from shards.encoders.text import TextEncoders
from shards.features.feature import MadeFrom

Encoder = Vae | ClipVision | TextEncoders | FaceEncoder
_NO_MATTER = {"architectures", "transformers_version", "dtype", "torch_dtype", "scaling_factor", "shift_factor"}
"""Settings that change no feature: the VAE's scale is applied behind them."""


def encoder_digest(encoder: Encoder) -> str:
    """Weights are hashed in bfloat16, so that a base that runs in it knows the features again that float32 made."""
    if isinstance(encoder, FaceEncoder):
        return hashlib.sha256(encoder.version.encode()).hexdigest()
    digest = hashlib.sha256()
    models: list[nn.Module] = list(encoder.models) if isinstance(encoder, TextEncoders) else [encoder.model]
    if isinstance(encoder, TextEncoders):
        vocabularies = [sorted(tokenizer.get_vocab().items()) for tokenizer in encoder.tokenizers]
        digest.update(json.dumps([encoder.penultimate, vocabularies]).encode())
    for model in models:
        digest.update(json.dumps(_settings(model), sort_keys=True, default=str).encode())
        for name, tensor in sorted(model.state_dict().items()):
            value = tensor.detach().to(torch.bfloat16).view(torch.int16) if tensor.is_floating_point() else tensor
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(value.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def encoder_name(base: BaseConfig, encoder: Encoder) -> str:
    """Where its weights came from, as a person would say it."""
    if isinstance(encoder, FaceEncoder):
        return encoder.version
    match encoder:
        case ClipVision() if base.clip is not None:
            return _at(base.clip, base.clip_revision)
        case Vae() if base.vae is not None:
            return _at(base.vae, base.vae_revision)
    part = {Vae: "vae", ClipVision: "clip", TextEncoders: "text"}[type(encoder)]
    if base.weights is None:
        return f"tiny {part}, seed {base.seed}"
    return f"{_at(base.weights, base.revision)} {part}"


def stamps(
    features: Mapping[FeatureName, Encoder], base: BaseConfig, size_px: int, dtype: DType = "float32"
) -> dict[FeatureName, MadeFrom]:
    """What each feature, by its encoder and of targets of this side, is made from."""
    encoders = {id(encoder): encoder for encoder in features.values()}
    digests = {number: encoder_digest(encoder) for number, encoder in encoders.items()}
    return {
        name: MadeFrom(
            name, encoder_name(base, encoder), digests[id(encoder)], dtype, size_px if name == "latents" else None
        )
        for name, encoder in features.items()
    }


def _at(name: str, commit: str | None) -> str:
    return f"{name}@{commit}" if commit else name


def _settings(model: Any) -> dict[str, Any]:
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in _NO_MATTER}
