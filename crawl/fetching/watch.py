"""What looks at an answer while it comes in, and ends it early; and what travels in a request's meta.

Knows nothing of how an answer comes in.
"""

from __future__ import annotations

from typing import Protocol

from scrapy.http import Headers

WATCH = "personae_watch"
"""In a request's meta: a Watch."""
ANSWERED_AT = "personae_answered_at"
"""In a request's meta: when its answer began, by the gate's clock; set by the handler."""


class Watch(Protocol):
    """Looks at an answer while it comes in. True ends the download; what came so far is the answer's body."""

    def begins(self, headers: Headers, num_bytes: int | None) -> bool: ...

    def goes_on(self, content: bytes) -> bool: ...


class Enough:
    """A Watch: so many bytes will do."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes

    def begins(self, headers: Headers, num_bytes: int | None) -> bool:
        self._left = self._max_bytes
        return False

    def goes_on(self, content: bytes) -> bool:
        self._left -= len(content)
        return self._left <= 0
