"""What one step sees: targets, prompts in parts, reference photos. Tensors and strings only.

B samples, N reference slots (ragged: see `References.present`). Knows no adapter and no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from shards.encoders.pictures import ClipStates
from shards.encoders.text import TextStates

PARTS = ("general", "background", "body")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The three parts of each caption. The trigger is in none of them."""

    general: tuple[str, ...]
    background: tuple[str, ...]
    body: tuple[str, ...]
    trigger_position: tuple[int, ...]
    """Character offset in `general` just behind the class word; −1 when there is no class word."""
    states: Mapping[str, TextStates] = field(default_factory=dict)
    """Part → encoded text [B, 77, C], for the parts that the adapter needs (`Needs.text`); "" too, batch 1."""


@dataclass(frozen=True, slots=True)
class References:
    """1–4 other photos of the target's person; slots beyond a sample's own are absent."""

    keys: tuple[tuple[str, ...], ...]
    """Per sample the keys of its references."""
    present: Tensor
    """bool [B, N]."""
    faces: Tensor | None = None
    """uint8 [B, N, 3, R, R]: face crops, zeros where absent. With `Needs.pixels`."""
    clip: ClipStates | None = None
    """Of the face crops: fields [B, N, T, D], [B, N, P] and [B, N, 5, T, D]. With `Needs.clip`."""
    embeddings: Tensor | None = None
    """[B, N, E], unit length, zeros where absent. With `Needs.face`."""
    bodies: Tensor | None = None
    """uint8 [B, N, 3, S, S]: the references' training crops. With `Needs.bodies`."""
    keypoints: Tensor | None = None
    """[B, N, 12, 3]: x, y in 0–1 of the crop, visibility. With `Needs.keypoints`."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Which conditions are left out, per sample: bool [B] each."""

    text: Tensor
    """The whole prompt, all parts."""
    identity: Tensor
    """The references: the sample is trained without its person."""
    background: Tensor
    """The background part alone."""
    body: Tensor
    """The body part alone (and body conditions)."""

    @staticmethod
    def none(size: int) -> Drop:
        no = torch.zeros(size, dtype=torch.bool)
        return Drop(no, no, no, no)


@dataclass(frozen=True, slots=True)
class Batch:
    """B training samples, ready for the adapter; on the base's device once `to` was called."""

    step: int
    indices: tuple[int, ...]
    """Global sample index of each: with the step, what every draw depends on."""
    keys: tuple[str, ...]
    identities: tuple[str, ...]
    latents: Tensor
    """Scaled VAE latents x_0 of the target photos, float32 [B, C, h, w]."""
    time_ids: Tensor
    """SDXL: original h, w, crop top, left, target h, w, of the target photo; float32 [B, 6]."""
    prompts: Prompts
    references: References
    drop: Drop
    face_mask: Tensor
    """1 inside the target's face box, float32 [B, 1, h, w], at least one latent a sample."""
    masked_loss: Tensor
    """bool [B]: the loss of this sample counts inside `face_mask` only."""
    keypoints: Tensor | None = None
    """Of the target: [B, 12, 3], x, y in 0–1 of the crop, visibility. With `Needs.keypoints`."""

    def __len__(self) -> int:
        return len(self.keys)

    def general(self) -> TextStates:
        """The encoded general part [B, 77, C], the empty prompt where text is dropped. With `Needs.text`."""
        states = self.prompts.states
        return states["general"].where(~self.drop.text, states[""])

    def replace(self, **changes: object) -> Batch:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Batch:
        """All tensors on `device`."""
        return cast(Batch, _moved(self, device))

    def without(self, text: bool = False, identity: bool = False) -> Batch:
        """The same samples with these conditions dropped for all: for guidance, and for steps before `merge_step`."""
        yes, drop = torch.ones_like(self.drop.text), self.drop
        changed = Drop(yes if text else drop.text, yes if identity else drop.identity, drop.background, drop.body)
        return self.replace(drop=changed)


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _moved(v, device) for key, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: _moved(getattr(value, f.name), device) for f in dataclasses.fields(value)}
        )
    return value
