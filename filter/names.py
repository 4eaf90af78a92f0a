"""The cross-name check: two names whose photos show one person.

Compares the centres of verified identities; knows no photos. All pairs are compared, in blocks of bounded size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

_BLOCK = 512
Counts = npt.NDArray[np.intp]


class Centred(Protocol):
    """What the check needs of an identity's finding."""

    @property
    def identity(self) -> str: ...

    @property
    def kept(self) -> int: ...

    @property
    def centre(self) -> npt.NDArray[np.float32] | None: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One identity shows the same person as a larger one."""

    identity: str
    same_as: str
    """The one that stays: the nearest in centre of those that do."""
    cosine: float


def same_person(findings: Sequence[Centred], same_person_cosine: float) -> list[Finding]:
    """Identities to set aside, by identity key. Identities without a centre take no part.

    `same_person_cosine` is for centres of many photos; those of few are asked for a little less.
    The one with fewer kept photos is set aside, of equals the one with the higher key; what is set aside sets
    nobody aside in turn, so that of every person one name stays.
    """
    ordered = sorted((f for f in findings if f.centre is not None), key=lambda f: (-f.kept, f.identity))
    if not ordered:
        return []
    centres = np.stack([f.centre for f in ordered if f.centre is not None]).astype(np.float32)
    kept = np.array([f.kept for f in ordered])
    stays = np.ones(len(ordered), dtype=bool)
    found: list[Finding] = []
    for start in range(0, len(ordered), _BLOCK):
        near = centres[start : start + _BLOCK] @ centres[: start + _BLOCK].T
        for offset, cosines in enumerate(near):
            own = start + offset
            least = least_cosine_of_centres(same_person_cosine, kept[own], kept[:own])
            larger = np.flatnonzero(stays[:own] & (cosines[:own] >= least))
            if len(larger):
                stays[own] = False
                best = int(larger[np.argmax(cosines[larger])])
                found.append(Finding(ordered[own].identity, ordered[best].identity, round(float(cosines[best]), 6)))
    return sorted(found, key=lambda f: f.identity)


def near_pairs(findings: Sequence[Centred], same_person_cosine: float) -> list[tuple[str, str]]:
    """Every two identities that may be one person, by the measure of `same_person`: also those that both stay."""
    ordered = [f for f in findings if f.centre is not None]
    if not ordered:
        return []
    centres = np.stack([f.centre for f in ordered if f.centre is not None]).astype(np.float32)
    kept = np.array([f.kept for f in ordered])
    pairs = []
    for start in range(0, len(ordered), _BLOCK):
        near = centres[start : start + _BLOCK] @ centres.T
        least = least_cosine_of_centres(same_person_cosine, kept[start : start + _BLOCK, None], kept)
        for row, column in np.argwhere(near >= least):
            if start + row < column:
                pairs.append((ordered[start + row].identity, ordered[column].identity))
    return pairs


def least_cosine_of_centres(limit: float, n: Counts | int, m: Counts | int) -> npt.NDArray[np.float64]:
    """Least cosine of two centres of one person, means of n and of m photos; `limit` for many.

    A mean of n photos lies off the true centre by an angle whose square falls as 1/n.
    """
    return np.asarray(limit - (1.0 - limit) / 2 * (1.0 / np.asarray(n) + 1.0 / np.asarray(m)))
