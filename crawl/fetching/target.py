"""What a network source asks for, and what came of it.

Knows nothing of how a photo is fetched or what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from crawl.photo import Rejection


@dataclass(frozen=True, slots=True)
class Target:
    """One photo to fetch for one name."""

    name: str
    """The person, as the list of people spells it."""
    image_url: str
    page_url: str | None = None
    """Where the photo is shown: what a takedown request will name."""
    licence: str | None = None
    author: str | None = None
    attribution: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """One target's fate. Without a rejection the bytes are in the store."""

    target: Target
    final_url: str | None
    """After redirects."""
    http_status: int | None
    """Of the last answer; None when there was none."""
    fetched_at: str
    """UTC, ISO 8601, seconds."""
    sha256: str
    """"" when there are no bytes. An opted-out photo may have one: its bytes were seen, and not kept."""
    num_bytes: int
    suffix: str
    header_pixels: int
    content_type: str | None
    etag: str | None
    last_modified: str | None
    signals: tuple[str, ...]
    """Opt-out signals seen, for instance `x-robots-tag: noai`."""
    user_agent: str
    rejection: Rejection | None
    retry: bool
    """Whether the next run tries again: timeouts, 429, 5xx, unreachable robots; not 404, opted out."""
