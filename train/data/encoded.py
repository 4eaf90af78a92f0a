"""What the frozen encoders say of photos: from cached features where these are given, else by running the encoders.

Both give the same float32 numbers. Knows nothing of batches, draws or where features lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from shards.encoders.config import FeatureName
from shards.encoders.pictures import ClipState, ClipStates
from shards.encoders.rows import clip_states, face_embeddings, latent_stats, text_states
from shards.encoders.text import TextStates
from shards.features.feature import Feature
from train.adapters.adapter import Needs
from train.base_models import Base
from train.data.photos import Photo

CLIP_FEATURES: dict[ClipState, FeatureName] = {
    "last": "clip_last", "penultimate": "clip_penultimate", "pooled": "clip_pooled", "scales": "clip_scales",
}  # fmt: skip
TEXT_FEATURES: dict[str, FeatureName] = {
    "general": "text_general", "background": "text_background", "body": "text_body",
}  # fmt: skip


class Encoded:
    """The features that an adapter needs, each cached or online."""

    def __init__(self, base: Base, needs: Needs, features: Mapping[FeatureName, Feature]) -> None:
        """`features`: those that are cached."""
        self._base, self._features = base, features
        self._states = needs.clip_states if needs.clip else ()

    def latent_stats(self, photos: Sequence[Photo]) -> Tensor:
        """[B, 2·C, h, w], see `Vae.stats`."""
        if "latents" in self._features:
            return self._read("latents", photos)["latents"]
        return latent_stats(self._base.vae, [photo.target() for photo in photos])

    def clip(self, photos: Sequence[Photo]) -> ClipStates:
        """Of the face crops, a row a photo; states that nobody needs have a width of 0."""
        features = CLIP_FEATURES
        if all(features[name] in self._features for name in self._states):
            found = {name: self._read(features[name], photos)[features[name]] for name in self._states}
        else:
            assert self._base.clip is not None
            states = clip_states(self._base.clip, [photo.face() for photo in photos])
            found = {name: getattr(states, name) for name in self._states}
        axes: dict[ClipState, int] = {"last": 2, "penultimate": 2, "pooled": 1, "scales": 3}
        nothing = {name: torch.zeros(len(photos), *[0] * count) for name, count in axes.items()}
        return ClipStates(**{**nothing, **found})

    def faces(self, photos: Sequence[Photo]) -> Tensor:
        """[B, E], unit length."""
        if "face" in self._features:
            return self._read("face", photos)["face"]
        assert self._base.face is not None
        return face_embeddings(self._base.face, [(photo.crop, photo.landmarks_px) for photo in photos])

    def text(self, part: str, photos: Sequence[Photo]) -> TextStates:
        """Of one part of the captions."""
        name = TEXT_FEATURES[part]
        if name not in self._features:
            return text_states(self._base.text, [photo.metadata[part] for photo in photos])
        found = self._read(name, photos)
        return TextStates(found[name], found.get(f"{name}_pooled"))

    @cached_property
    def blank(self) -> TextStates:
        """Of the empty prompt, a batch of 1."""
        return text_states(self._base.text, [""])

    def _read(self, name: FeatureName, photos: Sequence[Photo]) -> dict[str, Tensor]:
        rows = [self._features[name].arrays(photo.position) for photo in photos]
        return {array: torch.from_numpy(np.stack([row[array] for row in rows])) for array in rows[0]}
