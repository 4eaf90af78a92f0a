"""The table of rules, and the tests of a whole identity that follow a rule's decision.

Knows the settings; words no photo's verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from crawl.photo import Rejection
from filter.config import VerifyConfig
from filter.rules.cluster import cluster
from filter.rules.group import NO_FACE, Choice, Decision, Group, Limits, Tally, nobody
from filter.rules.hdbscan import hdbscan
from filter.rules.largest import largest_face
from filter.rules.linkage import linkage
from filter.rules.photomaker import photomaker_8delta

STAGE = "verify"
RULES: Mapping[str, Callable[[Group, Limits], Decision]] = {
    "cluster": cluster,
    "hdbscan": hdbscan,
    "largest-face": largest_face,
    "linkage": linkage,
    "photomaker-8delta": photomaker_8delta,
}
UNVERIFIED = "largest-face"
"""Asks for no agreement, so `min_photos` does not apply to it."""
MAX_COMPARED = {"hdbscan": 2_000, "linkage": 2_000}
"""Most faces for which these two, whose cost grows with their square, run merely to be compared."""
LEAST_SHARE_OF_TWO = 0.6
"""Among four or more strangers some two may agree by chance, so two photos must be two of two or of three."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule's decision after the tests of the whole identity."""

    decision: Decision
    refusal: Rejection | None
    """Why the whole identity is rejected."""
    kept: Choice

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.kept != NO_FACE))


def ask_all(group: Group, limits: Limits, config: VerifyConfig) -> dict[str, Outcome]:
    """What each rule makes of the group; the configured one is always asked."""
    faces = len(group.leader)
    asked = (r for r in RULES if r == config.rule or faces <= MAX_COMPARED.get(r, faces))
    return {rule: ask(rule, group, limits, config) for rule in asked}


def ask(rule: str, group: Group, limits: Limits, config: VerifyConfig) -> Outcome:
    """What one rule makes of the group."""
    decision = RULES[rule](group, limits)
    refusal = None if rule == UNVERIFIED else _refusal(decision, config)
    return Outcome(decision, refusal, decision.chosen if refusal is None else nobody(group.photos))


def _refusal(decision: Decision, config: VerifyConfig) -> Rejection | None:
    """None when the identity stands. The value is always below the threshold."""
    chosen = int(np.count_nonzero(decision.chosen != NO_FACE))
    tally = decision.tally or Tally(chosen, chosen, 0)
    if tally.photos < config.min_photos:
        return _too_few(tally.photos, config)
    least_share = max(config.min_share, LEAST_SHARE_OF_TWO) if tally.first == 2 else config.min_share
    if tally.first < least_share * tally.photos:
        return _no_majority(tally.first / tally.photos, least_share, tally)
    if tally.first < config.min_lead * (tally.first + tally.second):
        return _no_majority(tally.first / (tally.first + tally.second), config.min_lead, tally)
    return _too_few(tally.first, config) if tally.first < config.min_photos else None


def _too_few(photos: int, config: VerifyConfig) -> Rejection:
    return Rejection(STAGE, "too_few_photos", float(photos), float(config.min_photos))


def _no_majority(share: float, least: float, tally: Tally) -> Rejection:
    detail = f"the two people seen most are in {tally.first} and {tally.second} of {tally.photos} photos"
    return Rejection(STAGE, "no_majority", round(share, 6), least, detail)
