"""Whose load a request is: the one name of a host, whatever the URL's spelling, and the origin within it.

Knows nothing of pace or partitions.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from crawl.policy.canonical import BadUrl, canonical


def host_of(url: str) -> str:
    """In lower case and ASCII, without a port: two ports are one host. Raises BadUrl."""
    return _host(origin_of(url))


def host_name(url: str) -> str:
    """`host_of`, or "" for what no request can be made for."""
    try:
        return host_of(url)
    except BadUrl:
        return ""


def origin_of(url: str) -> str:
    """SCHEME://HOST:PORT as the URL spells it: what one robots.txt speaks of. Raises BadUrl."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadUrl(url, "bad_url", "not a URL") from None
    return f"{parts.scheme}://{parts.netloc}"


@lru_cache(maxsize=1024)
def _host(origin: str) -> str:
    return urlsplit(canonical(origin)).hostname or ""
