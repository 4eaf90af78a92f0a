"""What the frozen encoders say of photos: from cached features where these are true, else by running the encoders.

Both give the same float32 numbers. Knows nothing of batches or draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from crawl.errors import InputError
from shards.encoders.config import FeatureName
from shards.encoders.digest import Encoder, stamps
from shards.encoders.pictures import ClipState, ClipStates
from shards.encoders.rows import clip_states, face_embeddings, latent_stats, text_states
from shards.encoders.text import TextStates
from shards.features import MADE_FROM, Feature, feature_output
from shards.index import Index
from train.adapters.adapter import Needs
from train.base_models import Base
from train.data.photos import Photo

_STATES: tuple[ClipState, ...] = ("last", "penultimate", "pooled")


class Encoded:
    """The features that an adapter needs, each cached or online."""

    def __init__(
        self,
        dataset_url: str,
        index: Index,
        base: Base,
        needs: Needs,
        side_px: int,
        mode: Literal["auto", "cached", "online"],
    ) -> None:
        """Raises InputError, naming the command that makes it, for a feature that `cached` asks for in vain."""
        self._url, self._index, self._base, self._side_px, self._mode = dataset_url, index, base, side_px, mode
        self._states = needs.clip_states if needs.clip else ()
        self._features: dict[str, Feature] = {}
        self.online: dict[FeatureName, str] = {}
        """Features that are computed → why."""
        self._encoders: dict[FeatureName, Encoder] = dict(_needed(base, needs))
        self._open(*self._encoders)

    @property
    def names(self) -> tuple[FeatureName, ...]:
        """All that are needed."""
        return tuple(self._encoders)

    @property
    def cached(self) -> dict[str, Feature]:
        return dict(self._features)

    def latent_stats(self, photos: Sequence[Photo]) -> Tensor:
        """[B, 2·C, h, w], see `Vae.stats`."""
        if _version(self._base.vae) != self._vae_version:  # it was fitted since
            self._open("latents")
        if "latents" in self._features:
            return self._read("latents", photos)["latents"]
        return latent_stats(self._base.vae, [photo.target() for photo in photos])

    def clip(self, photos: Sequence[Photo]) -> ClipStates:
        """Of the face crops, a row a photo; states that nobody needs have a width of 0."""
        if all(f"clip_{name}" in self._features for name in self._states):
            found = {name: self._read(f"clip_{name}", photos)[f"clip_{name}"] for name in self._states}
        else:
            assert self._base.clip is not None
            states = clip_states(self._base.clip, [photo.face() for photo in photos])
            found = {name: getattr(states, name) for name in self._states}
        nothing = {"pooled": torch.zeros(len(photos), 0), **dict.fromkeys(_STATES[:2], torch.zeros(len(photos), 0, 0))}
        return ClipStates(**{name: found.get(name, nothing[name]) for name in _STATES})

    def faces(self, photos: Sequence[Photo]) -> Tensor:
        """[B, E], unit length."""
        if "face" in self._features:
            return self._read("face", photos)["face"]
        assert self._base.face is not None
        return face_embeddings(self._base.face, [(photo.crop, photo.landmarks_px) for photo in photos])

    def text(self, part: str, photos: Sequence[Photo]) -> TextStates:
        """Of one part of the captions."""
        name = f"text_{part}"
        if name not in self._features:
            return text_states(self._base.text, [photo.metadata[part] for photo in photos])
        found = self._read(name, photos)
        return TextStates(found[name], found.get(f"{name}_pooled"))

    @cached_property
    def blank(self) -> TextStates:
        """Of the empty prompt, a batch of 1."""
        return text_states(self._base.text, [""])

    def _read(self, name: str, photos: Sequence[Photo]) -> dict[str, Tensor]:
        rows = [self._features[name].arrays(photo.position) for photo in photos]
        return {array: torch.from_numpy(np.stack([row[array] for row in rows])) for array in rows[0]}

    def _open(self, *names: FeatureName) -> None:
        self._vae_version = _version(self._base.vae)
        for name in names:
            self._features.pop(name, None)
            self.online[name] = f"data.features: {self._mode}"
        if self._mode == "online":
            return
        there = {n: self._encoders[n] for n in names if self._is_there(n)}
        for name, wanted in stamps(there, self._base.config, self._side_px).items():
            try:
                self._features[name] = Feature(self._url, wanted, self._index)
                del self.online[name]
            except InputError as error:
                self.online[name] = str(error)
        if self._mode == "cached" and self.online:
            raise InputError(f"data.features: cached: {next(iter(self.online.values()))}: run {self._command()}")

    def _is_there(self, name: FeatureName) -> bool:
        """Before weights are hashed to see whether it is true."""
        output = feature_output(self._url, name)
        there = output.exists(MADE_FROM)
        if not there:
            self.online[name] = f"{output.path('').rstrip('/')}: missing"
        return there

    def _command(self) -> str:
        """What would make the features that are lacking."""
        settings = [f"encode.features=[{','.join(self.online)}]"]
        if "latents" in self.online:
            settings.append(f"data.size_px={self._side_px}")
        settings += [
            f"base.{key}={value}" for key, value in self._base.config.model_dump(exclude_defaults=True).items()
        ]
        return " ".join(["python -m shards encode", self._url, *settings])


def _needed(base: Base, needs: Needs) -> Iterator[tuple[FeatureName, Encoder]]:
    yield "latents", base.vae
    if needs.clip:
        assert base.clip is not None
        for state in needs.clip_states:
            yield f"clip_{state}", base.clip  # type: ignore[misc]
    if needs.face:
        assert base.face is not None
        yield "face", base.face
    for part in needs.text:
        yield f"text_{part}", base.text  # type: ignore[misc]


def _version(module: nn.Module) -> int:
    """Grows whenever a parameter is written to."""
    return sum(parameter._version for parameter in module.parameters())
