"""`python -m shards encode`: run the frozen encoders once over a dataset and keep what they say, feature by feature.

The unit of work is a tar: what is finished and still true stays, so the same command resumes, and redoes what a
changed dataset or encoder made untrue. Heavy: imports torch. Knows nothing of training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from crawl.errors import InputError
from shards.encoders.config import BaseConfig, EncodeRun, FeatureName
from shards.encoders.inputs import as_tensor, crop_image, face_image, landmarks_px, resized, target_side_px
from shards.encoders.load import load_clip, load_face, load_text, load_vae
from shards.encoders.pictures import ClipVision, FaceEncoder, Vae
from shards.encoders.rows import AT_ONCE, clip_states, face_embeddings, latent_stats, text_states
from shards.encoders.text import TextEncoders
from shards.features.digest import stamps
from shards.features.tars import FeatureTars
from shards.format.sample import Sample
from shards.read import Dataset

_READ = 4 * AT_ONCE
"""Samples in memory."""
Arrays = Mapping[str, Tensor]
"""NAME of an array → a row a sample."""


class Progress(Protocol):
    """Hears how much there is to do and how much is done, by encoder."""

    def expect(self, stage: str, photos: int, /) -> None: ...

    def tick(self, stage: str, photos: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Some samples of a tar, for encoders to look at."""

    samples: Sequence[Sample]
    shard: str
    side_px: int


@dataclass(frozen=True, slots=True)
class Kind:
    """One encoder, and what can be kept of it."""

    features: tuple[FeatureName, ...]
    load: Callable[[BaseConfig], Any]
    encode: Callable[[Any, Seen, Sequence[FeatureName]], Mapping[FeatureName, Arrays]]


def encode(run: EncodeRun, progress: Progress) -> Iterator[str]:
    """Make all configured features, one encoder in memory at a time; a line for each that is done.

    Raises InputError for a dataset or an encoder that cannot be read, ShardError for a bad tar.
    """
    with Dataset(run.data.dataset) as dataset:
        if not len(dataset):
            raise InputError(f"{run.data.dataset}: no samples")
        for name, kind in KINDS.items():
            features = [feature for feature in kind.features if feature in run.encode.features]
            if features:
                yield from _Encoding(run, dataset, name, kind, features).run(progress)


class _Encoding:
    """One encoder over all tars."""

    def __init__(
        self, run: EncodeRun, dataset: Dataset, name: str, kind: Kind, features: Sequence[FeatureName]
    ) -> None:
        self._dataset, self._name, self._kind = dataset, name, kind
        self._encoder = _placed(kind.load(run.base), run.encode.device)
        factor = self._encoder.factor if isinstance(self._encoder, Vae) else 1
        self._side_px = target_side_px(dataset, run.data.size_px, factor)
        wanted = stamps(dict.fromkeys(features, self._encoder), run.base, self._side_px, run.encode.dtype)
        self._tars = {name: FeatureTars(run.data.dataset, made, dataset.index) for name, made in wanted.items()}

    def run(self, progress: Progress) -> Iterator[str]:
        index = self._dataset.index
        pending = sorted({number for tars in self._tars.values() for number in tars.pending})
        progress.expect(self._name, sum(index.shards[number].samples for number in pending))
        for tars in self._tars.values():
            tars.begin()
        for number in pending:
            self._encode(number, progress)
        for tars in self._tars.values():
            yield tars.finish()

    def _encode(self, number: int, progress: Progress) -> None:
        tars = {name: tars for name, tars in self._tars.items() if number in tars.pending}
        shard = self._dataset.shard_name(self._dataset.index.positions_in(number)[0])
        with contextlib.ExitStack() as stack:
            writers = {name: stack.enter_context(each.write(number)) for name, each in tars.items()}
            for samples in self._samples(number):
                seen = Seen(samples, shard, self._side_px)
                for feature, arrays in self._kind.encode(self._encoder, seen, list(writers)).items():
                    rows = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
                    for place, sample in enumerate(samples):
                        writers[feature].add(sample, {name: values[place] for name, values in rows.items()})
                progress.tick(self._name, len(samples))
        for each in tars.values():
            each.done(number)

    def _samples(self, number: int) -> Iterator[list[Sample]]:
        index = self._dataset.index
        positions = index.positions_in(number)
        for at in range(0, len(positions), _READ):
            yield [self._dataset.sample(index.keys[position].decode()) for position in positions[at : at + _READ]]


def _latents(vae: Vae, seen: Seen, features: Sequence[FeatureName]) -> dict[FeatureName, Arrays]:
    crops = (crop_image(sample, seen.shard) for sample in seen.samples)
    return {"latents": {"latents": latent_stats(vae, [as_tensor(resized(crop, seen.side_px)) for crop in crops])}}


def _clip(clip: ClipVision, seen: Seen, features: Sequence[FeatureName]) -> dict[FeatureName, Arrays]:
    states = clip_states(clip, [as_tensor(face_image(sample, seen.shard)) for sample in seen.samples])
    return {name: {name: getattr(states, name.removeprefix("clip_"))} for name in features}


def _face(face: FaceEncoder, seen: Seen, features: Sequence[FeatureName]) -> dict[FeatureName, Arrays]:
    crops = [(crop_image(sample, seen.shard), landmarks_px(sample)) for sample in seen.samples]
    return {"face": {"face": face_embeddings(face, crops)}}


def _text(text: TextEncoders, seen: Seen, features: Sequence[FeatureName]) -> dict[FeatureName, Arrays]:
    made: dict[FeatureName, Arrays] = {}
    for name in features:
        states = text_states(text, [sample.metadata[name.removeprefix("text_")] for sample in seen.samples])
        pooled = {} if states.pooled is None else {f"{name}_pooled": states.pooled}
        made[name] = {name: states.hidden, **pooled}
    return made


KINDS = {
    "vae": Kind(("latents",), load_vae, _latents),
    "clip": Kind(("clip_last", "clip_penultimate", "clip_pooled", "clip_scales"), load_clip, _clip),
    "face": Kind(("face",), load_face, _face),
    "text": Kind(("text_general", "text_background", "text_body"), load_text, _text),
}


def _placed(encoder: Any, device: str | None) -> Any:
    """On the device; a face embedder stays where its runtime has it. Raises InputError for no such device."""
    if isinstance(encoder, FaceEncoder):
        return encoder
    try:
        return encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"encode.device: {device}: {str(error).splitlines()[0]}") from None
