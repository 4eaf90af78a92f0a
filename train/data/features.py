"""Which cached features of a dataset are what its encoders would say now; the others are computed, and why.

Knows nothing of photos and batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from crawl.errors import InputError
from shards.encoders.config import FeatureName
from shards.features.digest import Encoder, stamps
from shards.features.feature import MADE_FROM, Feature, feature_output, read_made_from
from shards.format.index import Index
from train.adapters.adapter import Needs
from train.base_models import Base
from train.data.encoded import CLIP_FEATURES, TEXT_FEATURES

Mode = Literal["auto", "cached", "online"]


class Features:
    """Of one dataset, for one base and what an adapter needs."""

    def __init__(self, dataset_url: str, index: Index, base: Base, needs: Needs, side_px: int, mode: Mode) -> None:
        """Raises InputError, naming the command that makes it, for a feature that `cached` asks for in vain."""
        self._url, self._index, self._base, self._side_px, self._mode = dataset_url, index, base, side_px, mode
        self._encoders = dict(_needed(base, needs))
        self._vae_parameters = list(base.vae.parameters())
        self.cached: dict[FeatureName, Feature] = {}
        self.online: dict[FeatureName, str] = {}
        """Features that the encoders compute → why."""
        self._open(list(self._encoders))

    def look_again(self) -> None:
        """Cached latents are not used once the VAE was changed; see `Features`."""
        if self._written() != self._vae_version:
            self._open(["latents"])

    def rounded(self) -> list[list[str]]:
        """Features that lie there in float16, used or not: a VAE that is fitted must not change what data this is."""
        found = (read_made_from(feature_output(self._url, name)) for name in self._encoders if self._mode != "online")
        return [[made.feature, made.digest] for made in found if made is not None and made.dtype == "float16"]

    def _open(self, names: Sequence[FeatureName]) -> None:
        self._vae_version = self._written()
        for name in names:
            self.cached.pop(name, None)
            self.online[name] = f"data.features: {self._mode}"
        if self._mode == "online":
            return
        there = {name: self._encoders[name] for name in names if self._is_there(name)}
        for name, wanted in stamps(there, self._base.config, self._side_px).items():
            try:
                self.cached[name] = Feature(self._url, wanted, self._index)
                del self.online[name]
            except InputError as error:
                self.online[name] = str(error)
        if self._mode == "cached" and self.online:
            raise InputError(f"data.features: cached: {next(iter(self.online.values()))}: run {self._command()}")

    def _written(self) -> int:
        """Grows whenever a parameter of the VAE is written to."""
        return sum(parameter._version for parameter in self._vae_parameters)

    def _is_there(self, name: FeatureName) -> bool:
        """Before weights are hashed to see whether it is true."""
        output = feature_output(self._url, name)
        there = output.exists(MADE_FROM)
        if not there:
            self.online[name] = f"{output.path('').rstrip('/')}: missing"
        return there

    def _command(self) -> str:
        """What would make the features that are lacking."""
        settings = [f"encode.features={','.join(self.online)}"]
        if "latents" in self.online:
            settings.append(f"data.size_px={self._side_px}")
        base = self._base.config.model_dump(exclude_defaults=True)
        settings += [f"base.{key}={value}" for key, value in base.items()]
        return " ".join(["python -m shards encode", self._url, *settings])


def _needed(base: Base, needs: Needs) -> Iterator[tuple[FeatureName, Encoder]]:
    yield "latents", base.vae
    if needs.clip:
        assert base.clip is not None
        for state in needs.clip_states:
            yield CLIP_FEATURES[state], base.clip
    if needs.face:
        assert base.face is not None
        yield "face", base.face
    for part in needs.text:
        yield TEXT_FEATURES[part], base.text
