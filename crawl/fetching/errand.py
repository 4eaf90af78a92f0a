"""One target fetched: asked for through the gate, judged, its bytes put into the store, and the row that says so.

Knows nothing of hosts' pace, of journals, or of what the photo shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from scrapy import Request
from scrapy.http import Headers, Response

from crawl.containers import header_pixels
from crawl.fetching.gate import Gate, Refused
from crawl.fetching.target import Fetched, Target
from crawl.fetching.watch import WATCH
from crawl.photo import Rejection
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import may_pass, refusal
from crawl.policy.signals import signals_in_headers, tdm_reserved
from crawl.store import Store, suffix_of
from crawl.tombstones import NO_TOMBSTONES, TAKEN_DOWN, Tombstones

ACCEPT = b"image/jpeg,image/png;q=0.9,image/webp;q=0.8,image/avif;q=0.7,*/*;q=0.1"
_SIGNALS = frozenset((b"X-Robots-Tag", b"Tdm-Reservation"))
_SNIFFED_BYTES = 12
"""What `suffix_of` looks at."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What to fetch, and what is known of it."""

    target: Target
    known: Fetched | None = None
    """An earlier row with its photo: ask whether it still holds."""


class Fetcher:
    """Runs errands, each to a row."""

    def __init__(
        self,
        settings: FetchSettings,
        gate: Gate,
        store: Store,
        now: Callable[[], datetime],
        tombstones: Tombstones = NO_TOMBSTONES,
    ) -> None:
        self._tombstones = tombstones
        self._settings = settings
        self._gate = gate
        self._store = store
        self._now = now

    async def fetch(self, errand: Errand) -> Fetched:
        """Never raises for what a server does. Raises OSError when the bytes cannot be stored."""
        blank = _blank(errand.target, self._settings.agent, self._now())
        if self._tombstones.address(errand.target.image_url) or self._tombstones.name(errand.target.name):
            return _rejected(blank, refusal(TAKEN_DOWN))
        request = self._request(errand)
        if request is None:
            return _rejected(blank, refusal("bad_url"))
        try:
            response = await self._gate.get(request)
            row = await self._judged(blank, response, errand.known)
        except Refused as refused:
            row = _rejected(replace(blank, final_url=refused.url), refused.rejection)
        if errand.known is not None and row.rejection is not None and row.retry:
            return errand.known  # what the network does today is no reason to lose a photo
        return row

    def _request(self, errand: Errand) -> Request | None:
        try:
            request = Request(errand.target.image_url, headers={"Accept": ACCEPT})
        except ValueError:
            return None
        request.meta[WATCH] = _Look(self._settings)
        known = errand.known
        if known is not None and known.final_url == request.url:
            for name, value in (("If-None-Match", known.etag), ("If-Modified-Since", known.last_modified)):
                if value is not None:
                    request.headers[name] = value
        return request

    async def _judged(self, blank: Fetched, response: Response, known: Fetched | None) -> Fetched:
        unchanged = response.status == 304 and known is not None
        row = replace(
            blank,
            final_url=response.url,
            http_status=response.status,
            content_type=_text(response.headers, "Content-Type"),
            etag=_text(response.headers, "ETag"),
            last_modified=_text(response.headers, "Last-Modified"),
        )
        if not unchanged and (not 200 <= response.status < 300 or response.status == 206):
            return _rejected(row, refusal("http_status", response.status))
        signals = await self._signals(response)
        if signals:
            opted_out = replace(row, signals=signals, sha256=_sha256(response.body, known))
            return _rejected(opted_out, refusal("opted_out", detail=signals[0]))
        if self._tombstones.address(response.url):
            return _rejected(blank, refusal(TAKEN_DOWN))
        if known is not None and unchanged:
            return replace(known, fetched_at=blank.fetched_at, user_agent=blank.user_agent)
        rejection = self._rejection(response)
        return self._stored(row, response.body) if rejection is None else _rejected(row, rejection)

    async def _signals(self, response: Response) -> tuple[str, ...]:
        pairs = _signal_headers(response.headers)
        signals = signals_in_headers(pairs, self._settings.agent)
        if not signals and tdm_reserved(pairs, await self._gate.tdm(response.url), response.url):
            return ("tdmrep.json",)
        return signals

    def _rejection(self, response: Response) -> Rejection | None:
        num_bytes = _length(response.headers)
        if num_bytes > self._settings.max_bytes:
            return refusal("too_large", num_bytes, self._settings.max_bytes)
        if not response.body:
            return refusal("empty")
        if suffix_of(response.body) == "bin":
            return refusal("not_an_image", detail=_text(response.headers, "Content-Type"))
        return None

    def _stored(self, row: Fetched, content: bytes) -> Fetched:
        if self._tombstones.content(hashlib.sha256(content).hexdigest()):
            return _rejected(row, refusal(TAKEN_DOWN))
        sha256, suffix = self._store.put(content)
        return replace(row, sha256=sha256, num_bytes=len(content), suffix=suffix, header_pixels=header_pixels(content))


class _Look:
    """Ends a download as soon as it is clear that its bytes are not wanted; what it is then, `_rejection` says."""

    def __init__(self, settings: FetchSettings) -> None:
        self._agent = settings.agent
        self._max_bytes = settings.max_bytes
        self._sniff = True

    def begins(self, headers: Headers, num_bytes: int | None) -> bool:
        self._sniff = b"Content-Encoding" not in headers
        pairs = _signal_headers(headers)
        return (num_bytes or 0) > self._max_bytes or bool(pairs and signals_in_headers(pairs, self._agent))

    def goes_on(self, content: bytes) -> bool:
        sniff, self._sniff = self._sniff, False
        return sniff and len(content) >= _SNIFFED_BYTES and suffix_of(content) == "bin"


def _blank(target: Target, agent: str, now: datetime) -> Fetched:
    fetched_at = now.astimezone(UTC).isoformat(timespec="seconds")
    return Fetched(target, None, None, fetched_at, "", 0, "bin", 0, None, None, None, (), agent, None, False)


def _rejected(row: Fetched, rejection: Rejection) -> Fetched:
    return replace(row, rejection=rejection, retry=may_pass(rejection))


def _sha256(content: bytes, known: Fetched | None) -> str:
    """Of bytes that are not kept: by this, copies of the photo elsewhere are known. "" when they never came."""
    if known is not None:
        return known.sha256
    return "" if suffix_of(content) == "bin" else hashlib.sha256(content).hexdigest()


def _signal_headers(headers: Headers) -> list[tuple[str, str]]:
    found = sorted(_SIGNALS.intersection(headers))
    return [(name.decode().lower(), value.decode("latin-1")) for name in found for value in headers.getlist(name)]


def _text(headers: Headers, name: str) -> str | None:
    """A header on one line, at most 500 characters."""
    value = headers.get(name)
    return None if value is None else " ".join(value.decode("latin-1").split())[:500]


def _length(headers: Headers) -> int:
    text = _text(headers, "Content-Length") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
