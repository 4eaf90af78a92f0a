"""Photos that lie in several datasets: found by their bytes, or by how their crops look, and kept once.

Within one dataset its own build has decided that already. Knows nothing of names or tombstones.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crawl.decode import decode_picture
from crawl.errors import InputError
from crawl.licence import most_restrictive
from crawl.photo import Rejection
from crawl.tombstones import nameless
from filter.duplicates import DUPLICATE
from filter.duplicates import STAGE as DUPLICATES
from filter.resolution import measure
from shards.beside.ledger import LedgerRow, row_of
from shards.derive.subset import Material


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a ledger, and which dataset it is from."""

    row: LedgerRow
    place: int


def ended(row: LedgerRow, rejection: Rejection, status: str, identity: str | None = None) -> LedgerRow:
    """The row, ended for another reason; what was taken down keeps nothing else."""
    if status == "removed":
        return row_of(nameless(identity or ""), row.bucket, status, rejection)
    duplicate = rejection.reason == DUPLICATE
    return dataclasses.replace(
        row,
        status=status,
        stage=rejection.stage,
        reason=rejection.reason,
        value=rejection.value,
        threshold=rejection.threshold,
        duplicate_of=rejection.detail if duplicate else None,
        detail=None if duplicate else rejection.detail,
    )


def without_copies(photos: Iterable[Row], materials: Sequence[Material]) -> tuple[list[Row], dict[str, str], int]:
    """Of one person's kept photos that are the same in two datasets, the larger stays; and its licence by then."""
    there = list(photos)
    by_person: dict[str, list[Row]] = defaultdict(list)
    for photo in there:
        if photo.row.status == "kept":
            by_person[photo.row.identity].append(photo)
    limit = max(m.run.filter.near_duplicate_bits for m in materials)
    replaced: dict[str, LedgerRow] = {}
    licences: dict[str, str] = {}
    for group in by_person.values():
        if len({photo.place for photo in group}) > 1:
            for copy, original, bits in _copies(group, materials, limit):
                reason = Rejection(DUPLICATES, DUPLICATE, float(bits), float(limit), original.row.key)
                replaced[copy.row.key] = ended(copy.row, reason, "rejected")
                told = [licences.get(original.row.key, original.row.licence or ""), copy.row.licence or ""]
                licences[original.row.key] = most_restrictive(told) or ""
    own = {p.row.key: p.row.licence or "" for p in there}
    changed: dict[str, str] = {key: licence for key, licence in licences.items() if licence != own[key]}
    return [dataclasses.replace(p, row=replaced.get(p.row.key, p.row)) for p in there], changed, len(replaced)


def _copies(group: Sequence[Row], materials: Sequence[Material], limit: int) -> Iterator[tuple[Row, Row, int]]:
    """(copy, what it is a copy of, differing bits): largest first, and only between datasets."""
    looks = {photo.row.key: _look(materials[photo.place], photo.row.key) for photo in group}
    stays: list[Row] = []
    for photo in sorted(group, key=lambda p: (-looks[p.row.key][0], p.row.key)):
        for other in stays:
            if other.place != photo.place:
                bits = 0 if photo.row.sha256 == other.row.sha256 else _bits(looks[photo.row.key], looks[other.row.key])
                if bits <= limit:
                    yield photo, other, bits
                    break
        else:
            stays.append(photo)


def _look(material: Material, key: str) -> tuple[int, int, int]:
    """(pixels of the original, dHash of the crop, dHash of the mirrored crop)."""
    sample = material.dataset.sample(key)
    height, width = sample.metadata["original_size"]
    picture = decode_picture(sample.image_jpeg)
    if isinstance(picture, Rejection):
        raise InputError(f"{material.url}: {key}.jpg does not decode: {picture.reason}")
    measures = measure(picture)
    return int(height) * int(width), measures.dhash, measures.mirrored_dhash


def _bits(one: tuple[int, int, int], other: tuple[int, int, int]) -> int:
    differing = np.bitwise_count(np.array(one[1:], dtype=np.int64) ^ np.int64(other[1]))
    return int(differing.min())
