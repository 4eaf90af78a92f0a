"""Encoding rows — pictures, faces, texts — so that what comes out of a row depends on nothing but the row.

A kernel may sum in another order for another batch size, so every call has the same number of rows: a batch's last
row is repeated until it is full. The one code for cached features and for encoding while training; float32 out.
Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from filter.faces import Image, Point
from shards.encoders.pictures import ClipStates, ClipVision, FaceEncoder, Vae, clip_pixels
from shards.encoders.text import TextEncoders, TextStates

AT_ONCE = 4
Row = TypeVar("Row")


@torch.no_grad()
def latent_stats(vae: Vae, images: Sequence[Tensor]) -> Tensor:
    """uint8 [3, S, S] each → [n, 2·C, S/f, S/f], see `Vae.stats`; n ≥ 1."""
    device = _device(vae)
    parts = [vae.stats(torch.stack(part).to(device)).float()[:count] for part, count in _full(images)]
    return torch.cat(parts)


@torch.no_grad()
def clip_states(clip: ClipVision, faces: Sequence[Tensor]) -> ClipStates:
    """uint8 [3, R, R] each, of any side → states with n ≥ 1 rows."""
    device, side_px = _device(clip), int(clip.model.config.image_size)
    parts = []
    for part, count in _full(faces):
        pixels = torch.cat([clip_pixels(face[None].to(device), side_px) for face in part])
        states = clip.states(pixels.to(clip.model.dtype))
        parts.append([state.float()[:count] for state in states.fields])
    return ClipStates(*(torch.cat(states) for states in zip(*parts, strict=True)))


@torch.no_grad()
def text_states(text: TextEncoders, texts: Sequence[str]) -> TextStates:
    """n ≥ 1 texts → states with as many rows."""

    def encode(part: Sequence[str], count: int) -> TextStates:
        states = text.encode(part)
        return TextStates(
            states.hidden.float()[:count], None if states.pooled is None else states.pooled.float()[:count]
        )

    parts = [encode(part, count) for part, count in _full(texts)]
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return TextStates(torch.cat([part.hidden for part in parts]), torch.cat(pooled) if pooled else None)


def face_embeddings(face: FaceEncoder, crops: Sequence[tuple[Image, Sequence[Point]]]) -> Tensor:
    """(crop, its five landmarks) each → [n, E], unit length; n ≥ 1."""
    return torch.stack([face.embed(image, landmarks_px) for image, landmarks_px in crops])


def _full(rows: Sequence[Row]) -> Iterator[tuple[list[Row], int]]:
    """Batches of exactly `AT_ONCE` rows, each with the number of those that count."""
    assert rows
    for at in range(0, len(rows), AT_ONCE):
        part = list(rows[at : at + AT_ONCE])
        yield part + part[-1:] * (AT_ONCE - len(part)), len(part)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
