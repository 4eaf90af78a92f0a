"""Opt-out signals that come with an answer: X-Robots-Tag, robots meta elements, TDM reservation.

Pure: headers and text in, signals out. Nothing switches it off. Where a site's wish is unclear, it is
read as an opt-out. The two files of a host are in `robots` and `tdm`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from parsel import Selector

from crawl.policy.robots import Robots, product_token
from crawl.policy.tdm import HEADER as TDM_HEADER
from crawl.policy.tdm import Tdm, declared_in_headers, reservation, tdm_reserved

__all__ = ["TOKENS", "Robots", "Tdm", "signals_in_headers", "signals_in_html", "tdm_reserved"]

TOKENS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "noml", "none"})
"""What keeps a photo out of a dataset. `none` is short for `noindex, nofollow`."""

_WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives that are followed by a colon and are no crawlers' names."""
_AGENT = re.compile(r"\*|[a-z0-9][\w./-]*")


def signals_in_headers(headers: Sequence[tuple[str, str]], agent: str) -> tuple[str, ...]:
    """Such as `x-robots-tag: noai` and `tdm-reservation: 1`, each once, in order; () when there is none.

    `agent` is the whole user agent. `otherbot: noai` opts out of that crawler only, up to the next name.
    """
    token = product_token(agent)
    found = [
        f"x-robots-tag: {directive}"
        for name, value in headers
        if name.lower() == "x-robots-tag"
        for directive in _directives(value, token)
    ]
    if declared_in_headers(headers):
        found.append(f"{TDM_HEADER}: 1")
    return _once(found)


def signals_in_html(text: str, agent: str) -> tuple[str, ...]:
    """Such as `meta robots: noai` and `meta tdm-reservation: 1`, from anywhere in the page but its comments."""
    if "<meta" not in text.lower():
        return ()
    token = product_token(agent)
    page = Selector(body=text.encode("utf-8", "replace"), encoding="utf-8", type="html")
    return _once(signal for element in page.xpath("//meta[@content]") for signal in _in_meta(element.root, token))


def _in_meta(element: Any, token: str) -> Iterator[str]:
    name = (element.get("name") or element.get("http-equiv") or "").strip().lower()
    content = element.get("content")
    if name in ("robots", "x-robots-tag", token):
        yield from (f"meta {name}: {directive}" for directive in _directives(content, token))
    elif name == TDM_HEADER and reservation(content):
        yield f"meta {TDM_HEADER}: 1"


def _directives(value: str, token: str) -> Iterator[str]:
    """The TOKENS of one header or element that are meant for the crawler called `token`."""
    for_us = True
    for piece in re.split(r"[,;]", value.lower()):
        name, colon, rest = piece.partition(":")
        if colon and _is_agent(name.strip()):
            for_us, piece = product_token(name) == token or name.strip() == "*", rest
        if for_us and not piece.strip().startswith(_WITH_VALUE):
            yield from (word for word in re.split(r"[\s:=]+", piece) if word in TOKENS)


def _is_agent(name: str) -> bool:
    return _AGENT.fullmatch(name) is not None and name not in TOKENS and name not in _WITH_VALUE


def _once(signals: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(signals))
