"""What to read of a licence that photos carry: its kind, and where its text is.

Knows the Creative Commons family, and nothing else by name.
"""

from __future__ import annotations

import re

from crawl.licence import kind_of
from crawl.sources.licence import licence_code

_CC = re.compile(r"(?:cc-)?(by(?:-nc)?(?:-nd|-sa)?)-(\d\.\d)(?:-([a-z]{2,}))?")
_DOMAIN = {
    "cc0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "pdm": "https://creativecommons.org/publicdomain/mark/1.0/",
}
MEANINGS = {
    "unknown": "nobody said what is permitted",
    "other terms": "terms of its own: read them",
    "all rights reserved": "nothing is permitted without asking",
    "by-nc-nd": "credit; no commercial use; no changed copies, crops included",
    "by-nc-sa": "credit; no commercial use; changed copies under the same licence",
    "by-nc": "credit; no commercial use",
    "by-nd": "credit; no changed copies, crops included",
    "by-sa": "credit; changed copies under the same licence",
    "by": "credit",
    "public domain": "no conditions known",
}
"""Kinds of licences, as `crawl.licence.ORDER` has them → what they ask, in a few words that are no legal advice."""


def meaning(licence: str) -> str:
    return MEANINGS[kind_of(licence)]


def link(licence: str) -> str | None:
    """Where the licence's text is, as far as its name says."""
    if licence.startswith(("https://", "http://")):
        return licence
    code = licence_code(licence)
    for family, address in _DOMAIN.items():
        if code == family or code.startswith(f"{family}-"):
            return address
    match = _CC.fullmatch(code)
    if match is None:
        return None
    kind, version, country = match.groups()
    return f"https://creativecommons.org/licenses/{kind}/{version}/" + (f"{country}/" if country else "")


def hub_licence(licence: str) -> str | None:
    """The Hugging Face hub's own name of the licence, where it has one."""
    code = licence_code(licence)
    if code in ("cc0-1.0", "cc0"):
        return "cc0-1.0"
    match = _CC.fullmatch(code)
    return f"cc-{match[1]}-{match[2]}" if match and not match[3] and match[2] in ("2.0", "2.5", "3.0", "4.0") else None
