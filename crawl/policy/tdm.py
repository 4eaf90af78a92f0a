"""The TDM Reservation Protocol: rights reserved by a response header or by `/.well-known/tdmrep.json`.

W3C Community Group final report, 2024. The header beats the file; the file's first rule that matches
counts. Knows neither HTML (`signals` does) nor the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

PATH = "/.well-known/tdmrep.json"
HEADER = "tdm-reservation"
MAX_BYTES = 500 * 1024
"""A larger file is not read: nobody writes so many rules by hand, and there is no part of JSON to trust."""

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, slots=True)
class Tdm:
    """The rules of one origin, in its order."""

    rules: tuple[tuple[str, bool], ...] = ()
    """(normalised location pattern, whether rights are reserved)."""

    @classmethod
    def from_answer(cls, status: int | None, body: bytes) -> Tdm:
        """No such file, no answer or no JSON: the origin does not take part, as the report says."""
        if status is None or not 200 <= status < 300 or len(body) > MAX_BYTES:
            return cls()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return cls()
        entries = document if isinstance(document, list) else [document]
        return cls(tuple(rule for entry in entries if (rule := _rule(entry)) is not None))

    def reserves(self, url: str) -> bool:
        """Whether the first rule that matches the URL's path and query reserves it."""
        if not self.rules:
            return False
        path = _path(url)
        return next((reserved for location, reserved in self.rules if _matches(location, path)), False)


def tdm_reserved(headers: Sequence[tuple[str, str]], tdm: Tdm, url: str) -> bool:
    """Whether rights in the URL are reserved, by the answer's header or, without one, by the origin's file."""
    declared = declared_in_headers(headers)
    return tdm.reserves(url) if declared is None else declared


def declared_in_headers(headers: Sequence[tuple[str, str]]) -> bool | None:
    """What the `tdm-reservation` headers say; None without a valid one. Of contradicting ones 1 counts."""
    values = [reservation(value) for name, value in headers if name.lower() == HEADER]
    return True if True in values else False if False in values else None


def reservation(value: object) -> bool | None:
    """1 → True, 0 → False, whatever else → None, which is "unset". Text and booleans are understood too."""
    first = re.split(r"[\s,;]", str(value).strip().lower(), maxsplit=1)[0]
    return {"1": True, "true": True, "0": False, "false": False}.get(first)


def _rule(entry: object) -> tuple[str, bool] | None:
    if not isinstance(entry, dict):
        return None
    location, reserved = entry.get("location"), reservation(entry.get(HEADER))
    return None if not isinstance(location, str) or reserved is None else (_pattern(location.strip()), reserved)


def _pattern(location: str) -> str:
    """Normalised, with `*` for anything and a `$` only at the end; every other `$` is spelt %24."""
    if re.match(r"https?://", location, re.IGNORECASE):  # not foreseen, but there is no doubt what is meant
        location = "/" + location.split("/", 3)[3] if location.count("/") > 2 else "/"
    anchor = "$" if location.endswith("$") else ""
    body = _normal(location.removesuffix("$")).replace("$", "%24")
    return (body if body.startswith(("/", "*")) else f"/{body}") + anchor


def _path(url: str) -> str:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _normal(path).replace("$", "%24").replace("*", "%2A")


def _normal(text: str) -> str:
    """One spelling of a path: unreserved characters plain, all other escapes upper case, no raw Unicode."""

    def spelt(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        return character if character in _UNRESERVED else escape[0].upper()

    return quote(_ESCAPE.sub(spelt, text), safe="%/:?#[]@!$&'()*+,;=-._~")


def _matches(pattern: str, path: str) -> bool:
    """Prefix match as in robots.txt. Piece by piece, leftmost first: linear, whatever the pattern."""
    anchored = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    if not others:
        return not anchored or path == first
    at, *middle, last = [len(first), *others]
    for piece in middle:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return path.endswith(last) and len(path) - len(last) >= at if anchored else path.find(last, at) >= 0
