"""Duplicates within one identity, decided largest photo first: the first seen of a kind is the one kept.

The same file by its hash, before it is decoded; the same picture by difference hash, mirrored copies
included. Decided before verification: a photo republished thirty times would otherwise elect itself the
identity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crawl.licence import most_restrictive
from crawl.photo import Photo, Rejection
from filter.resolution import Measures

STAGE = "duplicates"
DUPLICATE = "duplicate"


class Seen:
    """The photos of one identity so far. Feed it the largest photo first."""

    def __init__(self, near_bits: int) -> None:
        self._near_bits = near_bits
        self._files: dict[str, str] = {}
        self._keys: list[str] = []
        self._hashes: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def same_file(self, photo: Photo) -> Rejection | None:
        """`duplicate` of an earlier photo with the same bytes, whatever became of it; or remember this one."""
        original = self._files.setdefault(photo.sha256, photo.key)
        return None if original == photo.key else self._rejection(0, original)

    def same_picture(self, key: str, measures: Measures) -> Rejection | None:
        """`duplicate` of an earlier photo (its key in `detail`, differing bits as value), or remember this one."""
        hashes = np.array([measures.dhash, measures.mirrored_dhash], dtype=np.int64)
        differing = np.bitwise_count(self._hashes[:, None] ^ hashes).min(axis=1, initial=64)
        nearest = int(differing.argmin()) if len(differing) else -1
        if nearest >= 0 and differing[nearest] <= self._near_bits:
            return self._rejection(int(differing[nearest]), self._keys[nearest])
        self._keys.append(key)
        self._hashes = np.append(self._hashes, hashes[0])
        return None

    def _rejection(self, bits: int, original: str) -> Rejection:
        return Rejection(STAGE, DUPLICATE, float(bits), float(self._near_bits), original)


def strictest_licences(photos: Sequence[tuple[str, str | None, str | None]]) -> dict[str, str | None]:
    """(key, licence, key of the photo it is a duplicate of) → key of each original → licence of it and its copies.

    That is the most restrictive one (`crawl.licence`); of equals the original's own, then the first by its letters.
    """
    licences = {key: licence for key, licence, _ in photos}
    original_of = {key: original for key, _, original in photos if original is not None}
    copies: dict[str, list[str]] = defaultdict(list)
    for key in original_of:
        original = key
        while original in original_of:
            original = original_of[original]
        copies[original].append(licences[key] or "")
    return {
        key: most_restrictive([licence, *sorted(copies[key])]) or None
        for key, licence in licences.items()
        if key not in original_of
    }
