"""A small made-up batch on which two ways of loading the same weights must agree. Holds no photo and no person."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shards.encoders.pictures import SCALES, ClipStates
from train.adapters.adapter import Needs
from train.base_models import Base
from train.data.batch import Batch, Drop, Prompts, References

_GENERAL = ("a photo of a woman in red", "portrait of a man, outdoors")
_SUBJECTS = ("woman", "man")
_LATENTS = 16
_FACE_PX = 64


def probe(base: Base, needs: Needs, references: int = 2, seed: int = 0) -> Batch:
    """Two samples of normal noise with `references` each: all that `needs` names, nothing dropped."""
    generator = torch.Generator().manual_seed(seed)
    size = len(_GENERAL)

    def normal(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=generator)

    square = 8 * _LATENTS
    batch = Batch(
        step=0,
        indices=tuple(range(size)),
        keys=tuple(f"probe-{i}" for i in range(size)),
        identities=tuple(f"nobody-{i}" for i in range(size)),
        latents=normal(base.vae.channels, _LATENTS, _LATENTS),
        time_ids=torch.tensor([[square, square, 0, 0, square, square]] * size, dtype=torch.float32),
        prompts=_prompts(base, needs),
        references=_references(base, needs, references, generator),
        drop=Drop.none(size),
        face_mask=torch.ones(size, 1, _LATENTS, _LATENTS),
        masked_loss=torch.zeros(size, dtype=torch.bool),
        keypoints=torch.rand(size, 12, 3, generator=generator) if needs.keypoints else None,
    )
    return batch.to(base.device)


def _prompts(base: Base, needs: Needs) -> Prompts:
    parts: dict[str, tuple[str, ...]] = {
        "general": _GENERAL,
        "background": ("a grey wall", "trees"),
        "body": ("standing", "facing left, arms down"),
    }
    states = {name: base.text.encode(parts[name]) for name in needs.text}
    positions = tuple(text.index(word) + len(word) for text, word in zip(_GENERAL, _SUBJECTS, strict=True))
    return Prompts(**parts, trigger_position=positions, states=states | {"": base.text.encode([""])})


def _references(base: Base, needs: Needs, count: int, generator: torch.Generator) -> References:
    shape = (len(_GENERAL), count)
    pictures: dict[str, Any] = {"generator": generator, "dtype": torch.uint8}
    embeddings = torch.randn(*shape, base.face.width, generator=generator) if needs.face and base.face else None
    return References(
        keys=tuple(tuple(f"probe-{i}-{j}" for j in range(count)) for i in range(shape[0])),
        present=torch.ones(shape, dtype=torch.bool),
        faces=torch.randint(0, 256, (*shape, 3, _FACE_PX, _FACE_PX), **pictures) if needs.pixels else None,
        clip=_clip(base, shape, generator) if needs.clip else None,
        embeddings=None if embeddings is None else torch.nn.functional.normalize(embeddings, dim=-1),
        bodies=torch.randint(0, 256, (*shape, 3, _FACE_PX, _FACE_PX), **pictures) if needs.bodies else None,
        keypoints=torch.rand(*shape, 12, 3, generator=generator) if needs.keypoints else None,
    )


def _clip(base: Base, shape: tuple[int, int], generator: torch.Generator) -> ClipStates:
    assert base.clip is not None
    config = base.clip.model.config
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    last, penultimate = (torch.randn(*shape, tokens, base.clip.width, generator=generator) for _ in range(2))
    pooled = torch.randn(*shape, base.clip.pooled_width, generator=generator)
    scales = torch.randn(*shape, SCALES, tokens, base.clip.width, generator=generator)
    return ClipStates(last, penultimate, pooled, scales)
