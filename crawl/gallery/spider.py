"""The Scrapy spider of the `gallery` source: asks for pages through the gate and tells what the walk finds.

Yields Target, Unlisted and Passed, at the end Walked. Knows nothing of a page's structure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrapy import Request, Spider
from scrapy.http import Response

from crawl.fetching.gate import Gate, Refused
from crawl.fetching.jobs import downloader_of
from crawl.gallery.page import Page
from crawl.gallery.walk import Walk
from crawl.photo import Rejection
from crawl.policy.refusals import refusal
from crawl.policy.signals import signals_in_headers, signals_in_html, tdm_reserved
from crawl.source_config import GallerySettings
from crawl.sources.listing import unlisted

_ACCEPT = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1", "Accept-Encoding": "gzip, deflate"}


@dataclass(frozen=True, slots=True)
class Walked:
    """The walk came to its end."""

    pages: int
    """Answered."""


class GallerySpider(Spider):
    """One walk through one gallery, with one request in flight."""

    name = "gallery"

    def __init__(
        self,
        gallery: Mapping[str, Any],
        names: Sequence[str] | None,
        hosts: Sequence[str],
        agent: str,
        done: Sequence[str] = (),
    ) -> None:
        """`gallery`: GallerySettings as JSON. `hosts`: whose pages are followed. `agent`: the user agent.

        `done`: addresses of people to pass by.
        """
        super().__init__()
        self._agent = agent
        self._pages = 0
        settings = GallerySettings.model_validate(gallery)
        self._start_url = settings.start_url
        self._walk = Walk(settings, names, frozenset(hosts), self._ask, done)

    async def start(self) -> AsyncIterator[Any]:
        try:
            async for item in self._walk.items():
                yield item
        except Exception as error:  # Scrapy would only log it, and the rest of the gallery be lost in silence
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
            yield unlisted("", self._start_url, "listing_failed", detail=told)
        yield Walked(self._pages)

    async def _ask(self, url: str) -> Page:
        gate = downloader_of(self.crawler).gate
        try:
            request = Request(url, headers=_ACCEPT)
        except ValueError:
            raise Refused(refusal("bad_url"), url) from None
        response = await gate.get(request)
        self._pages += 1
        if response.status != 200:
            raise Refused(refusal("http_status", response.status), response.url)
        content_type = (response.headers.get(b"Content-Type") or b"").decode("latin-1")
        if not is_page(content_type):
            raise Refused(Rejection("crawl", "not_a_page", detail=content_type[:200]), response.url)
        signals = await self._signals(gate, response)
        return Page(response.url, content_type, response.body, signals)

    async def _signals(self, gate: Gate, response: Response) -> tuple[str, ...]:
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name in response.headers
            for value in response.headers.getlist(name)
        ]
        signals = (
            *signals_in_headers(headers, self._agent),
            *signals_in_html(response.body.decode("utf-8", "replace"), self._agent),
        )
        if not signals and tdm_reserved(headers, await gate.tdm(response.url), response.url):
            return ("tdmrep.json",)
        return signals


def is_page(content_type: str) -> bool:
    """Whether it may be HTML; an answer that does not say may."""
    kind = content_type.partition(";")[0].strip().lower()
    return not kind or "html" in kind or "xml" in kind or kind == "text/plain"
