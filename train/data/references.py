"""The reference photos of a batch as tensors, as ragged as they are. Knows what is asked for, not who asks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from shards.encoders.pictures import ClipStates
from train.adapters.adapter import Needs
from train.data.batch import References
from train.data.encoded import Encoded
from train.data.photos import Photo


def gather(
    photos: Sequence[Sequence[Photo]], slots: int, needs: Needs, encoded: Encoded, face_side_px: int
) -> References:
    """Each sample's references in its first slots; each photo is looked at once. Nothing is read that nobody needs."""
    keys = tuple(tuple(photo.key for photo in row) for row in photos)
    present = torch.tensor([[slot < len(row) for slot in range(slots)] for row in photos])
    if not needs.references:
        return References(keys, present)
    once = {photo.position: photo for row in photos for photo in row}
    places = {position: number for number, position in enumerate(once)}
    rows = torch.tensor([places[photo.position] for row in photos for photo in row])

    def put(values: Tensor) -> Tensor:
        """A row a photo → [B, N, …], zero where absent."""
        out = values.new_zeros(*present.shape, *values.shape[1:])
        out[present.to(values.device)] = values[rows.to(values.device)]
        return out

    def each(look: Callable[[Photo], Tensor]) -> Tensor:
        return put(torch.stack([look(photo) for photo in once.values()]))

    unique = list(once.values())
    clip = encoded.clip(unique) if needs.clip else None
    return References(
        keys,
        present,
        faces=each(lambda photo: photo.face_at(face_side_px)) if needs.pixels else None,
        clip=None if clip is None else ClipStates(*map(put, clip.fields)),
        embeddings=put(encoded.faces(unique)) if needs.face else None,
        bodies=each(Photo.target) if needs.bodies else None,
        keypoints=each(Photo.keypoints) if needs.keypoints else None,
    )


def reordered(references: References, order: Sequence[int]) -> References:
    """Row `order[i]` at place i."""

    def pick(value: object) -> object:
        if isinstance(value, Tensor):
            return value[torch.tensor(order, device=value.device)]
        if isinstance(value, tuple):
            return tuple(value[row] for row in order)
        if isinstance(value, ClipStates):
            return ClipStates(*(cast(Tensor, pick(states)) for states in value.fields))
        return value

    picked = {field.name: pick(getattr(references, field.name)) for field in dataclasses.fields(references)}
    return References(**picked)  # type: ignore[arg-type]


def others(identities: Sequence[str]) -> list[int]:
    """For each sample one of another person, at least two of whom there are.

    The next such sample round the batch; for a person's second sample the one after it, and so on: with people in
    turn, everybody is compared with ever other people.
    """
    size, seen, order = len(identities), Counter[str](), []
    for row, who in enumerate(identities):
        strangers = [other for i in range(1, size) if identities[other := (row + i) % size] != who]
        order.append(strangers[seen[who] % len(strangers)])
        seen[who] += 1
    return order
