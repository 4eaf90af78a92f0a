"""Verification of one identity: which of its photos show the named person, and which face there it is.

Turns photos into arrays, follows the configured rule, and words the outcome. Reads embeddings only; knows
no pixels, files or models. The rules are in `filter/rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from crawl.photo import Rejection
from filter.config import VerifyConfig
from filter.faces import Embeddings
from filter.rules.group import NO_FACE, Group, Limits, first_of_its_kind
from filter.rules.settle import RULES, STAGE, Outcome, ask_all

_UNIT_TOLERANCE = 1e-3
_DIGITS = 6


class Calibrated(Protocol):
    """What an embedder's table entry says of its cosines; `Limits` explains each."""

    @property
    def threshold(self) -> float: ...

    @property
    def pair_threshold(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """The counting faces of one photo; at least one."""

    key: str
    embeddings: Embeddings
    """faces × dimensions, unit rows."""
    sides_px: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PhotoVerdict:
    """One photo: the face that is the named person, or why the photo is rejected."""

    key: str
    face_index: int | None
    score: float | None
    """Cosine of that face to the centre of the identity's other kept faces; 1 when there are no others."""
    rejection: Rejection | None
    """`not_this_person`, `second_person`, or the whole identity's `no_majority` or `too_few_photos`."""
    kept_by: tuple[str, ...]
    """Every rule that would have kept the photo, sorted."""


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many photos of the identity a rule would have kept."""

    rule: str
    kept: int | None
    """None: too many faces to ask it merely to compare."""


@dataclass(frozen=True, slots=True)
class IdentityFinding:
    """What was found of one identity."""

    identity: str
    rule: str
    photos: int
    """With at least one counting face."""
    kept: int
    centre: npt.NDArray[np.float32] | None
    """Unit mean of the kept faces, duplicates counting once; None when nothing is kept."""
    threshold: float
    """Least cosine to the centre of many photos; a centre of few asks for a little less (`Limits.least_cosine`)."""
    distinct_photos: int
    """Duplicates counting once, as in the next two."""
    first_person_photos: int | None
    """Photos that show the dominant person; None for rules that don't ask."""
    second_person_photos: int
    """Photos that show the second person, those that show both included; 0 when there is none."""
    refused: str | None
    """`no_majority` or `too_few_photos` when the whole identity is rejected."""
    by_rule: tuple[RuleCount, ...]

    @property
    def no_majority(self) -> bool:
        return self.refused == "no_majority"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Photos in the order of their keys, and the identity."""

    photos: tuple[PhotoVerdict, ...]
    finding: IdentityFinding


def verify_identity(identity: str, photos: Sequence[Candidates], embedder: Calibrated, config: VerifyConfig) -> Verdict:
    """Decide for every photo (at least one) of one identity. Their order does not matter; their keys must differ."""
    limits = _limits(embedder, config)
    ordered = sorted(photos, key=lambda p: p.key)
    group = _group(ordered, limits)
    outcomes = ask_all(group, limits, config)
    own = outcomes[config.rule]
    fit = group.fit(own.kept)
    verdicts = tuple(_photo(photo.key, n, own, group, fit, outcomes) for n, photo in enumerate(ordered))
    return Verdict(verdicts, _finding(identity, config.rule, group, limits, outcomes))


def _limits(embedder: Calibrated, config: VerifyConfig) -> Limits:
    """A threshold from the config is meant literally: for centres of few photos too."""
    if config.threshold is None:
        return Limits(embedder.threshold, embedder.pair_threshold)
    return Limits(config.threshold, config.threshold)


def _group(photos: Sequence[Candidates], limits: Limits) -> Group:
    assert len({p.key for p in photos}) == len(photos), "photo keys repeat"
    counts = [len(p.embeddings) for p in photos]
    photo_of = np.repeat(np.arange(len(photos)), counts)
    face_index = np.concatenate([np.arange(n) for n in counts])
    sides = np.array([side for p in photos for side in p.sides_px], dtype=np.float64)
    scores = np.array([score for p in photos for score in p.scores], dtype=np.float64)
    order = np.lexsort((-scores, -sides, photo_of))
    embeddings = np.concatenate([p.embeddings for p in photos]).astype(np.float32, copy=False)[order]
    off = np.abs(np.linalg.norm(embeddings, axis=1) - 1)
    assert min(counts) > 0, "a photo without faces"
    assert np.all(off < _UNIT_TOLERANCE), "an embedding is not finite and of unit length"
    leader = first_of_its_kind(embeddings, limits.duplicate_cosine)
    return Group(embeddings, photo_of, sides[order], scores[order], leader, face_index[order])


def _photo(
    key: str, number: int, own: Outcome, group: Group, fit: npt.NDArray[np.float64], outcomes: Mapping[str, Outcome]
) -> PhotoVerdict:
    kept_by = tuple(sorted(rule for rule, outcome in outcomes.items() if outcome.kept[number] != NO_FACE))
    row = own.kept[number]
    if row == NO_FACE:
        return PhotoVerdict(key, None, None, own.refusal or _rejection(own, number), kept_by)
    score = float(fit[row]) if fit[row] >= -1 else 1.0
    return PhotoVerdict(key, int(group.face_index[row]), round(score, _DIGITS), None, kept_by)


def _rejection(own: Outcome, number: int) -> Rejection:
    decision = own.decision
    reason = "not_this_person" if decision.second[number] == NO_FACE else "second_person"
    return Rejection(STAGE, reason, _number(decision.values[number]), _number(decision.least[number]))


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else round(float(value), _DIGITS)


def _finding(
    identity: str, rule: str, group: Group, limits: Limits, outcomes: Mapping[str, Outcome]
) -> IdentityFinding:
    own = outcomes[rule]
    tally = own.decision.tally
    return IdentityFinding(
        identity=identity,
        rule=rule,
        photos=group.photos,
        kept=own.count,
        centre=group.centre(own.kept).astype(np.float32) if own.count else None,
        threshold=limits.threshold,
        distinct_photos=group.distinct_photos,
        first_person_photos=tally.first if tally else None,
        second_person_photos=tally.second if tally else 0,
        refused=own.refusal.reason if own.refusal else None,
        by_rule=tuple(RuleCount(r, outcomes[r].count if r in outcomes else None) for r in sorted(RULES)),
    )
