"""What is asked of an adapter — a prompt in parts and somebody's photos — as a batch to sample from.

Rows are as different as they like. Knows no command, no dataset and no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from filter.config import FilterConfig
from shards.format.sample import Sample
from train.adapters.adapter import Adapter, Needs
from train.base_models import Base
from train.data.batch import Batch, Drop, References
from train.data.encoded import Encoded
from train.data.photos import KEYPOINTS, Photo
from train.data.references import gather
from train.sampling import encoded


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One picture that is wanted."""

    general: str
    background: str
    body: str
    trigger_position: int
    """Offset in `general` just behind the class word; −1 without one."""
    references: tuple[Sample, ...]
    looks: tuple[Sample, ...] = ()
    """Photos of the body, for methods that take some; empty: those of `references`."""
    pose: Tensor | None = None
    """Target keypoints [12, 3], for methods that take some: x, y in 0–1, visibility."""


def batch_of(base: Base, adapter: Adapter, asked: Sequence[Asked], side_px: int) -> Batch:
    """On the base's device; nothing is dropped, and its latents say nothing."""
    needs, count, side = type(adapter).needs(adapter.settings), len(asked), side_px // base.vae.factor
    nowhere = torch.zeros(KEYPOINTS, 3)
    return Batch(
        step=0,
        indices=tuple(range(count)),
        keys=("",) * count,
        identities=("",) * count,
        latents=torch.zeros(count, base.vae.channels, side, side),
        time_ids=torch.tensor([[side_px, side_px, 0, 0, side_px, side_px]] * count, dtype=torch.float32),
        prompts=encoded(
            base,
            needs,
            [one.general for one in asked],
            [one.background for one in asked],
            [one.body for one in asked],
            [one.trigger_position for one in asked],
        ),
        references=_references(base, needs, asked, side_px),
        drop=Drop.none(count),
        face_mask=torch.ones(count, 1, side, side),
        masked_loss=torch.zeros(count, dtype=torch.bool),
        keypoints=torch.stack([nowhere if one.pose is None else one.pose for one in asked])
        if needs.keypoints
        else None,
    ).to(base.device)


def _references(base: Base, needs: Needs, asked: Sequence[Asked], side_px: int) -> References:
    """Faces are those of `references`, bodies and their poses those of `looks` where there are any, in turn."""

    def gathered(rows: Sequence[Sequence[Sample]], needs: Needs) -> References:
        keys = dict.fromkeys(sample.key for row in rows for sample in row)
        places = {key: place for place, key in enumerate(keys)}
        photos = [[Photo(s.key, places[s.key], "photo", side_px, partial(_same, s)) for s in row] for row in rows]
        slots = max((1, *(len(row) for row in rows)))
        return gather(photos, slots, needs, Encoded(base, needs, {}), FilterConfig().face_size_px)

    people = gathered([one.references for one in asked], needs)
    if not needs.bodies or not any(one.looks for one in asked):
        return people
    bodies = gathered(
        [[(one.looks or one.references)[i % len(one.looks or one.references)] for i in range(len(one.references))]
         for one in asked],
        Needs(references=True, bodies=True, keypoints=needs.keypoints),
    )  # fmt: skip
    return dataclasses.replace(people, bodies=bodies.bodies, keypoints=bodies.keypoints)


def _same(sample: Sample) -> Sample:
    return sample
