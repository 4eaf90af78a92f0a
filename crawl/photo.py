"""The Photo row, why a photo was refused, and the keys that place both.

Knows nothing of files, networks, images or Ray.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass

IDENTITY_KEY_LENGTH = 16
PHOTO_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of one name, as found: the unit every later row grows from.

    The same file under two names, or under two addresses, is two Photos with one `sha256`.
    """

    key: str
    """32 hex digits: hash of identity, source and content. Opaque, safe in file names and tars."""
    identity: str
    """16 hex digits: hash of the name. Opaque; the name itself stays in `identities.parquet`."""
    source: str
    """Path relative to `crawl.root`, or the photo's URL."""
    sha256: str
    """Hash of the original bytes, "" when they could not be had."""
    num_bytes: int
    suffix: str = "jpg"
    """By the content, not the name: jpg, png, webp, avif, or bin for what is no image."""
    header_pixels: int = 0
    """height × width as the header says, 0 when it says nothing: of duplicates the largest is kept."""
    modified_ns: int | None = None
    """A local file's modification time: with the size, what tells whether to read it again."""
    page_url: str | None = None
    image_url: str | None = None
    licence: str | None = None
    author: str | None = None
    fetched_at: str | None = None
    """UTC, ISO 8601; None for local files, whose build must not depend on the clock."""
    signals: tuple[str, ...] = ()
    """Opt-out signals seen with the photo."""
    attribution: str | None = None
    """How the source asks to be credited."""
    final_url: str | None = None
    """After redirects; like the next five, of the last answer, None for local files."""
    http_status: int | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a photo went no further. `value` and `threshold` are in the unit the reason implies."""

    stage: str
    reason: str
    value: float | None = None
    threshold: float | None = None
    detail: str | None = None
    """The other photo's key for `duplicate`, the other identity's key for `same_as_other_name`."""


def identity_key(name: str) -> str:
    """Opaque key of a name. NFC first: file systems spell the same accented name in two ways."""
    return _digest("identity", unicodedata.normalize("NFC", name))[:IDENTITY_KEY_LENGTH]


def photo_key(identity: str, source: str, sha256: str) -> str:
    return _digest("photo", identity, source, sha256)[:PHOTO_KEY_LENGTH]


def bucket_of(identity: str, buckets: int) -> int:
    """The bucket, 0 ≤ b < `buckets`, that holds everything of this identity."""
    return int(_digest("bucket", identity)[:15], 16) % buckets


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
