"""`TrainData`: a `BatchSource` on shards. Leave-one-out within each person, every choice a function of a counter.

Memory holds one batch: nothing decoded is kept. Knows nothing of adapters beyond what they need, nor of the loop.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from crawl.errors import InputError
from shards.encoders.config import FeatureName
from shards.encoders.inputs import target_side_px
from shards.format.index import Index
from shards.read import Dataset
from train.adapters.adapter import Needs
from train.base_models import Base
from train.config import DataConfig
from train.data.batch import PARTS, Batch, Drop, Prompts, References
from train.data.draws import Draws
from train.data.encoded import Encoded
from train.data.features import Features
from train.data.groups import Chosen, Groups, kept_back
from train.data.photos import Photo
from train.data.references import gather, others, reordered
from train.data.survey import survey

_VERSION = 1
"""Of how samples are drawn."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What there is to train on."""

    dataset: str
    people: int
    targets: int
    """Training photos: an epoch."""
    held_out: int
    alone: int
    """People with a single photo, who cannot serve."""
    lost: int
    """Photos in bad shards."""
    cached: tuple[str, ...]
    online: Mapping[FeatureName, str]
    """Features that the encoders compute → why."""

    def lines(self) -> list[str]:
        lines = [f"{self.dataset}: {self.targets} photos of {self.people} people, {self.held_out} more held out"]
        if self.alone:
            lines.append(f"{self.alone} people with a single photo cannot serve and are left out")
        if self.lost:
            lines.append(f"{self.lost} photos lie in bad shards and are left out")
        if self.cached:
            lines.append(f"cached features: {', '.join(self.cached)}")
        return [*lines, *(f"{name} is encoded online: {why}" for name, why in self.online.items())]


def only(index: Index, config: DataConfig) -> Index:
    """The index of whom a run trains on. Raises InputError for one of `data.identities` who is not there."""
    for key in config.identities:
        if key not in index.identities:
            raise InputError(f"data.identities: {key}: nobody in {config.dataset} has this key")
    wanted = sorted(set(config.identities)) or index.identities
    chosen = {who: index.identities[who] for who in wanted if not kept_back(who, config.holdout_people)}
    return dataclasses.replace(index, identities=chosen)


class TrainData:
    """See `BatchSource`. May be used from several threads, which take turns."""

    def __init__(self, config: DataConfig, needs: Needs, base: Base, draws: Draws) -> None:
        """Looks at every photo once. Raises InputError, before training, for what the dataset cannot give."""
        self._config, self._needs, self._base, self._draws = config, needs, base, draws
        self._lock = threading.Lock()
        self._dataset = Dataset(config.dataset)
        index, least = self._dataset.index, 2 if needs.references else 1
        people = only(index, config)
        everyone = [p for positions in people.identities.values() if len(positions) >= least for p in positions]
        self._lost = survey(self._dataset, config.dataset, everyone, needs, config.on_bad_shard)
        self._groups = Groups(people, config.holdout, config.references, draws, least, self._lost)
        if not self._groups.groups:
            who = "with two photos or more" if needs.references else "at all"
            raise InputError(f"data.dataset: {config.dataset}: nobody {who}: nothing to train on")
        self._side_px = target_side_px(self._dataset, config.size_px, base.vae.factor)
        self._features = Features(config.dataset, index, base, needs, self._side_px, config.features)
        self._encoded = Encoded(base, needs, self._features.cached)

    @property
    def summary(self) -> Summary:
        groups, features = self._groups, self._features
        held_out = sum(len(group.held_out) for group in groups.groups)
        return Summary(
            self._config.dataset, len(groups.groups), len(groups), held_out, groups.alone, len(self._lost),
            tuple(features.cached), dict(features.online),
        )  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """Of photos, split and chances. Not of where encodings come from, except where that rounds."""
        config = self._config
        drawn = [config.references, config.holdout, config.drop.model_dump(), config.masked_loss, sorted(self._lost)]
        if config.identities:
            drawn.append(sorted(set(config.identities)))
        if config.holdout_people:
            drawn.append(config.holdout_people)
        data = [self._dataset.index.digest, self._side_px, self._features.rounded()]
        text = json.dumps([_VERSION, data, drawn])
        return hashlib.sha256(text.encode()).hexdigest()

    def batch(self, step: int, rows: range, batch_size: int) -> Batch:
        """Raises ShardError naming the shard that a photo cannot be read from."""
        indices = [step * batch_size + row for row in rows]
        masked = self._draws.uniform("masked loss", step, indices) < self._config.masked_loss
        with self._lock:
            chosen = [self._groups.training(index) for index in indices]
            return self._made(step, indices, chosen, self._dropped(step, indices), masked)

    def held_out(self, count: int) -> Batch:
        """Nothing is dropped. The references are training photos."""
        no = torch.zeros(count, dtype=torch.bool)
        with self._lock:
            return self._made(0, range(count), self._groups.held_out(count), Drop.none(count), no)

    def swapped(self, batch: Batch) -> Batch:
        """See `others`. Raises InputError when all are one person's."""
        if len(set(batch.identities)) == 1:
            raise InputError("data.dataset: one person alone: there are no other references to swap")
        return batch.replace(references=reordered(batch.references, others(batch.identities)))

    def photos(self, count: int) -> Tensor:
        """Training crops, uint8 [≤ count, 3, S, S], none twice, people in turn."""
        with self._lock:
            return torch.stack([self._photo(position).target() for position in self._groups.photos(count)])

    def faces(self, batch: Batch) -> list[list[Tensor]]:
        """Each sample's reference faces, uint8 [3, R, R]."""
        index = self._dataset.index
        with self._lock:
            return [[self._photo(index.position(key)).face() for key in keys] for keys in batch.references.keys]

    def _made(self, step: int, indices: Sequence[int], chosen: Sequence[Chosen], drop: Drop, masked: Tensor) -> Batch:
        targets = [self._photo(choice.target) for choice in chosen]
        latents = self._latents(step, indices, targets)
        return Batch(
            step,
            tuple(indices),
            keys=tuple(photo.key for photo in targets),
            identities=tuple(choice.identity for choice in chosen),
            latents=latents,
            time_ids=torch.stack([photo.time_ids() for photo in targets]),
            prompts=self._prompts(targets),
            references=self._references(chosen),
            drop=drop,
            face_mask=torch.stack([photo.face_mask(latents.shape[-1]) for photo in targets]),
            masked_loss=masked,
            keypoints=torch.stack([photo.keypoints() for photo in targets]) if self._needs.keypoints else None,
        )

    def _latents(self, step: int, indices: Sequence[int], targets: Sequence[Photo]) -> Tensor:
        self._features.look_again()
        stats = self._encoded.latent_stats(targets)
        shape = (stats.shape[1] // 2, *stats.shape[2:])
        return self._base.vae.latents(stats, self._draws.normal("posterior", step, indices, shape).to(stats.device))

    def _prompts(self, targets: Sequence[Photo]) -> Prompts:
        states = {part: self._encoded.text(part, targets) for part in self._needs.text}
        if states:
            states[""] = self._encoded.blank
        general, background, body = (tuple(photo.metadata[part] for photo in targets) for part in PARTS)
        return Prompts(
            general,
            background,
            body,
            trigger_position=tuple(int(photo.metadata.get("trigger_position", -1)) for photo in targets),
            states=states,
        )

    def _references(self, chosen: Sequence[Chosen]) -> References:
        photos = [[self._photo(position) for position in choice.references] for choice in chosen]
        return gather(photos, self._config.references[1], self._needs, self._encoded, self._face_side_px)

    def _dropped(self, step: int, indices: Sequence[int]) -> Drop:
        """Text, identity and both are intervals of one number; each part has a coin of its own."""
        chances = self._config.drop
        coin = self._draws.uniform("drop", step, indices)
        until_identity = chances.text + chances.identity
        both = (coin >= until_identity) & (coin < until_identity + chances.both)
        background, body = (
            self._draws.uniform(f"drop {part}", step, indices) < chances.parts for part in ("background", "body")
        )
        identity = (coin >= chances.text) & (coin < until_identity)
        return Drop((coin < chances.text) | both, identity | both, background, body)

    def _photo(self, position: int) -> Photo:
        key, shard = self._dataset.index.keys[position].decode(), self._dataset.shard_name(position)
        return Photo(key, position, shard, self._side_px, lambda: self._dataset.sample(key))

    @cached_property
    def _face_side_px(self) -> int:
        """Of the first target's face crop; others are resized to it."""
        return int(self._photo(self._groups.photos(1)[0]).face().shape[-1])
