"""All counting faces of one name as arrays, and the few operations that every rule is made of.

Rows are faces, ordered by photo, the larger first; photos are numbered in the order of their keys, so that
nothing here depends on the order of the input and every tie goes to the lower key. Knows no rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filter.faces import Embeddings

Rows = npt.NDArray[np.intp]
"""Face rows."""
Choice = npt.NDArray[np.intp]
"""One entry a photo: the row of the face chosen there, or `NO_FACE`."""
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NO_FACE = -1
OUT = -2.0
"""Below every cosine."""
_BLOCK = 512
_DUPLICATE_PART = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """The embedder's cosines that rules compare with; docs/verification.md says how each was found."""

    threshold: float
    """Least cosine of a face to the centre of many photos of its person."""
    pair_threshold: float
    """Least cosine of two photos of one person."""

    def least_cosine(self, others: Rows) -> Floats:
        """Least cosine of a face to the centre of so many other faces (≥ 1).

        The fewer faces a centre is the mean of, the further it lies from each of them, right or wrong:
        `pair_threshold` for one, `threshold` in the limit, in between as 1 − 1/n.
        """
        part = 1.0 - 1.0 / np.maximum(others, 1)
        return np.asarray(self.pair_threshold + (self.threshold - self.pair_threshold) * part)

    @property
    def duplicate_cosine(self) -> float:
        """Faces closer than this are one picture: a tenth of the distance at which people part."""
        return 1.0 - _DUPLICATE_PART * (1.0 - self.pair_threshold)


@dataclass(frozen=True, slots=True)
class Tally:
    """Photos, duplicates counting once."""

    photos: int
    first: int
    """Of the dominant person."""
    second: int
    """Of the second person, those that show both included."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule made of a group."""

    chosen: Choice
    """The face kept of each photo."""
    values: Floats
    """Per photo what the rule measured of its best face; NaN where nothing was."""
    least: Floats
    """Per photo what that was compared with; NaN where it was with nothing."""
    second: Choice
    """The second person's face of each photo, also where `chosen` has another face."""
    tally: Tally | None = None
    """None for rules that don't ask whether anybody dominates."""


@dataclass(frozen=True, slots=True)
class Group:
    """The faces of one name."""

    embeddings: Embeddings
    """faces × dimensions, unit rows."""
    photo_of: Rows
    """Photo number of each face, ascending; every photo has at least one face."""
    sides_px: Floats
    scores: Floats
    """The detector's."""
    leader: Rows
    """For each face the first face that it duplicates; itself when none. Only leaders vote."""
    face_index: Rows
    """Each face's place among its photo's faces as they came."""

    @property
    def photos(self) -> int:
        return int(self.photo_of[-1]) + 1 if len(self.photo_of) else 0

    @property
    def is_leader(self) -> Mask:
        return np.asarray(self.leader == np.arange(len(self.leader)))

    @property
    def distinct_photos(self) -> int:
        """Photos with at least one face that is no duplicate of an earlier one."""
        return len(np.unique(self.photo_of[self.is_leader]))

    def best_face(self, value: Floats) -> Choice:
        """Per photo the face of the greatest value; of equals the first."""
        order = np.lexsort((-value, self.photo_of))
        return order[np.searchsorted(self.photo_of, np.arange(self.photos))]

    def choose(self, value: Floats, least: Floats | float) -> Choice:
        """Per photo the face of the greatest value of those with at least `least` (one number, or one a face)."""
        best = self.best_face(np.where(value >= least, value, OUT))
        return np.where((value >= least)[best], best, NO_FACE)

    def members(self, person: Choice) -> Rows:
        """The faces that a person's centre is the mean of: duplicates once."""
        return np.unique(self.leader[rows_of(person)])

    def others(self, person: Choice) -> Rows:
        """For each face, the number of members that are not this face."""
        own = self._belongs(person)
        return np.asarray(len(self.members(person)) - own.astype(np.intp))

    def centre(self, person: Choice) -> Floats:
        """Unit mean of the members (at least one)."""
        total = self.embeddings[self.members(person)].astype(np.float64).sum(axis=0)
        return np.asarray(total / np.linalg.norm(total))

    def fit(self, person: Choice) -> Floats:
        """For each face the cosine to the centre of the person's *other* members; `OUT` when there are none.

        With S the members' sum and l the face's own entry in it: x·(S − l) / |S − l|.
        """
        x, members = self.embeddings.astype(np.float64), self.members(person)
        total, leaders = x[members].sum(axis=0), x[self.leader]
        own = self._belongs(person)
        dot = x @ total - own * np.einsum("fd,fd->f", x, leaders)
        square = total @ total - own * (2 * (leaders @ total) - 1)
        return np.where(len(members) - own > 0, dot / np.sqrt(np.maximum(square, 1e-12)), OUT)

    def _belongs(self, person: Choice) -> Mask:
        """Whether each face is a member, or a duplicate of one."""
        member = np.zeros(len(self.leader), dtype=bool)
        member[self.members(person)] = True
        return np.asarray(member[self.leader])


def nobody(photos: int) -> Choice:
    """No face chosen in any photo."""
    return np.full(photos, NO_FACE, dtype=np.intp)


def rows_of(chosen: Choice) -> Rows:
    """The chosen faces, in the order of their photos."""
    return np.asarray(chosen[chosen != NO_FACE])


def cosine_blocks(embeddings: Embeddings) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """(rows, their cosines with all), 512 rows at a time: memory grows with n, never with n²."""
    for start in range(0, len(embeddings), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(embeddings)))
        yield rows, embeddings[rows] @ embeddings.T


def first_of_its_kind(embeddings: Embeddings, duplicate_cosine: float) -> Rows:
    """For each face the first face that it duplicates; itself when none.

    Leaders, not linked components: among thousands of photos a chain of small steps would make all of them one.
    """
    leader = np.arange(len(embeddings))
    for rows, cosines in cosine_blocks(embeddings):
        earlier = np.tril(cosines >= duplicate_cosine, k=rows.start - 1)
        for row in np.flatnonzero(earlier.any(axis=1)):
            near = np.flatnonzero(earlier[row])
            leaders = near[leader[near] == near]
            if len(leaders):
                leader[rows.start + row] = leaders[0]
    return leader
