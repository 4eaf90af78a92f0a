"""Scrapy's downloader behind the gate, and what the many errors of the network mean.

Every request of the child process passes here, whoever makes it, a spider through Scrapy's engine among them.
Knows nothing of photos or results.
"""

from __future__ import annotations

import dataclasses
import logging
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from OpenSSL import SSL
from scrapy import Request, signals
from scrapy.core.downloader import Downloader
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.httpcompression import HttpCompressionMiddleware
from scrapy.exceptions import IgnoreRequest, NotSupported
from scrapy.http import Response
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.error import SchemeNotSupported

from crawl.fetching.gate import Gate, Refused
from crawl.fetching.handler import Handler, ShortBody, TooLarge
from crawl.photo import Rejection
from crawl.policy.guard import GuardedResolver, NotPublicAddress, guarded_settings
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import refusal

FETCH_SETTINGS = "PERSONAE_FETCH"
HOSTS = "PERSONAE_HOSTS"
BEGUN_AT = "PERSONAE_BEGUN_AT"
"""Names of the child's Scrapy settings that the downloader reads."""


class PoliteDownloader(Downloader):
    """What Scrapy asks for every request (its setting DOWNLOADER), with the gate in front."""

    report: Callable[[str, Rejection], None] | None = None
    """Told (URL, why) of requests of a spider that were refused."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        from twisted.internet import reactor

        settings = FetchSettings.from_record(crawler.settings[FETCH_SETTINGS])
        self._max_bytes = settings.max_bytes
        self._timeout_s = settings.timeout_s
        self._is_guarded = False
        self.gate = Gate(
            settings,
            frozenset(crawler.settings[HOSTS]),
            self._ask_once,
            time.monotonic,
            lambda seconds: deferLater(reactor, seconds),
            lambda: datetime.now(UTC),
            crawler.settings[BEGUN_AT],
        )
        self._handler = Handler(crawler)
        self._compression = HttpCompressionMiddleware(crawler=crawler)
        crawler.signals.connect(self._handler.close, signals.engine_stopped)

    def fetch(self, request: Request, spider: Any = None) -> Deferred[Response | Request]:
        """For Scrapy's engine; fails with Refused."""
        return Deferred.fromCoroutine(self._fetch(request))

    async def _fetch(self, request: Request) -> Response:
        waiting = request.copy()
        self.active.add(waiting)  # also at the gate: by this the engine knows that its spider is not done
        try:
            return await self.gate.get(request)
        except Refused as refused:
            if self.report is not None:
                self.report(refused.url, refused.rejection)
            raise
        finally:
            self.active.remove(waiting)

    async def _ask_once(self, request: Request) -> Response:
        """Ask once. Raises Refused when there is no answer."""
        await self._guarded()
        try:
            return self._decoded(request, await self._handler.download_request(request))
        except Exception as error:
            raise Refused(self._refusal_of(error), request.url) from error

    def _decoded(self, request: Request, response: Response) -> Response:
        """Without its Content-Encoding."""
        if b"Content-Encoding" not in response.headers:
            return response
        decoded = self._compression.process_response(request, response)
        assert isinstance(decoded, Response)
        return decoded

    async def _guarded(self) -> None:
        """A spider may ask before the reactor runs, and Scrapy installs the resolver only just before that."""
        from twisted.internet import reactor

        if not self._is_guarded:
            await deferLater(reactor, 0)
            resolver = reactor.nameResolver
            assert isinstance(resolver, GuardedResolver), "the address guard is not in place"
            self._is_guarded = True

    def _refusal_of(self, error: Exception) -> Rejection:
        if isinstance(error, ConnectTimeoutError):
            return refusal("timeout", threshold=self._timeout_s)
        if _is_too_large(error):
            return refusal("too_large", threshold=self._max_bytes)
        return _refusal_of(error)


def scrapy_settings(settings: FetchSettings, hosts: Sequence[str], begun_at: float) -> dict[str, Any]:
    """All that Scrapy is told: the gate and the guard, no cookies, no proxies, no referer, no remote control.

    `begun_at`: by the machine's monotonic clock, since when no other process asks these hosts.
    """
    logging.disable(logging.WARNING)
    guarded = guarded_settings(settings.own_hosts, settings.allowed_networks)
    return guarded | {
        FETCH_SETTINGS: dataclasses.asdict(settings),
        HOSTS: sorted(hosts),
        BEGUN_AT: begun_at,
        "DOWNLOADER": "crawl.fetching.downloader.PoliteDownloader",
        "DOWNLOAD_HANDLERS": guarded["DOWNLOAD_HANDLERS"] | {"http": None, "https": None},
        "DOWNLOADER_MIDDLEWARES_BASE": {},
        "SPIDER_MIDDLEWARES_BASE": {
            "scrapy.spidermiddlewares.start.StartSpiderMiddleware": 25,
            "scrapy.spidermiddlewares.httperror.HttpErrorMiddleware": 50,
            "scrapy.spidermiddlewares.depth.DepthMiddleware": 900,
        },
        "EXTENSIONS_BASE": {},
        "TELNETCONSOLE_ENABLED": False,
        "REMOTE_CONTROL_ENABLED": False,
        "STATS_DUMP": False,
        "LOG_LEVEL": "ERROR",
        "CONCURRENT_REQUESTS": 16,  # of a spider, at the gate; the others wait in its scheduler
        "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
        "DOWNLOAD_DELAY": 0,
        "DOWNLOAD_TIMEOUT": settings.timeout_s,
        "DOWNLOAD_MAXSIZE": settings.max_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        "DOWNLOAD_VERIFY_CERTIFICATES": settings.verify_certificates,
        "REACTOR_THREADPOOL_MAXSIZE": max(10, settings.hosts_at_once),
        # The platform's own: of Twisted's reactors asyncio's takes a third more time for each photo.
        "TWISTED_REACTOR": None,
    }


def _is_too_large(error: Exception) -> bool:
    """On the wire, or while a Content-Encoding was being undone."""
    return isinstance(error, TooLarge) or (isinstance(error, IgnoreRequest) and isinstance(error.__cause__, ValueError))


def _refusal_of(error: Exception) -> Rejection:
    if isinstance(error, Refused):
        return error.rejection
    if isinstance(error, NotPublicAddress):
        return refusal("not_public", detail=error.address)
    if isinstance(error, DNSLookupError):
        return refusal("dns")
    if isinstance(error, ShortBody):
        return refusal("short_body")
    if isinstance(error, NotSupported | SchemeNotSupported | ValueError):
        return refusal("bad_url")
    tls = _tls_error(error)
    if tls is not None:
        return refusal("tls", detail=tls)
    if isinstance(error, ResponseFailed | ConnectError | ConnectionClosed):
        return refusal("connection", detail=type(_innermost(error)).__name__)
    if isinstance(error, zlib.error | OSError | EOFError | struct.error):
        return refusal("encoding", detail=type(error).__name__)
    return refusal("error", detail=type(error).__name__)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what Twisted wrapped into it, outermost first."""
    reasons: list[Failure] = getattr(error, "reasons", None) or []
    return [error, *(reason.value for reason in reasons if reason.value is not None)]


def _innermost(error: BaseException) -> BaseException:
    return _causes(error)[-1]


def _tls_error(error: BaseException) -> str | None:
    for cause in _causes(error):
        if isinstance(cause, VerificationError):
            return "the certificate is another host's"
        if isinstance(cause, SSL.Error):
            parts = cause.args[0] if cause.args and isinstance(cause.args[0], list) else []
            return next((str(part[2]) for part in parts if len(part) > 2 and part[2]), "no reason given")
    return None
