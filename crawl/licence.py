"""Which of several licences of one photo counts: the one that permits least.

Copies of a photo come with different claims, and nobody here can tell whose is true: who grants least is believed.
Knows nothing of photos, or of where the claims come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from crawl.sources.licence import licence_code

ORDER = (
    "unknown",
    "other terms",
    "all rights reserved",
    "by-nc-nd",
    "by-nc-sa",
    "by-nc",
    "by-nd",
    "by-sa",
    "by",
    "public domain",
)
"""Kinds of licences, the most restrictive first. `other terms`: words that none of the patterns below knows."""

_CONDITIONS = ("nc", "nd", "sa")
_CC = re.compile(r"(?:cc-)?by(?=-|$)")
_KINDS = {
    "unknown": r"(un|not-)known|none|n-a",
    "public domain": r"cc0|pdm|public-domain|pd-|no-(known-)?(copyright-)?restrictions",
    "by-sa": r"gfdl|fal(?=-|$)|free-art-licen[cs]e|l?gpl",
    "by": r"attribution(-only)?$|ogl|open-government-licen[cs]e",
    "all rights reserved": r".*(all-rights-reserved|rights-managed|non-?free|fair-use|editorial)|copyright(ed)?$",
}
"""Of what is not Creative Commons: how its code begins; the first that fits counts."""


def kind_of(licence: str | None) -> str:
    """One of ORDER: `CC BY-SA 4.0` → `by-sa`."""
    code = licence_code(licence or "")
    if not code:
        return "unknown"
    if _CC.match(code):
        return "-".join(["by", *(part for part in _CONDITIONS if part in code.split("-"))])
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, code)), "other terms")


def most_restrictive(licences: Iterable[str | None]) -> str | None:
    """The one that is first in ORDER; of several of one kind the first."""
    return min(licences, key=lambda licence: ORDER.index(kind_of(licence)))
