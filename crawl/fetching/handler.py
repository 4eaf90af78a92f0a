"""One answer over HTTP, watched while it comes in, within a size and a time.

Scrapy's own download handler, with its pool of connections, its TLS and its lenient parser, but without its
signals and its agent for every request: they took a third of a photo's time. Knows nothing of whether, or when,
a request may be made.
"""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

from scrapy import Request
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.crawler import Crawler
from scrapy.http import Headers, Response
from scrapy.responsetypes import responsetypes
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, FileBodyProducer, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers as SentHeaders
from twisted.web.iweb import UNKNOWN_LENGTH, IAgentEndpointFactory
from zope.interface import implementer

from crawl.fetching.gate import Refused
from crawl.fetching.watch import ANSWERED_AT, WATCH, Watch
from crawl.policy.refusals import refusal


class TooLarge(Exception):
    """The body is, or would become, larger than it may."""


class ShortBody(Exception):
    """The connection ended before the body did."""


class Handler(HTTP11DownloadHandler):
    """Asks once: no request is sent again behind our back when a kept connection was closed."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._timeout_s = crawler.settings.getfloat("DOWNLOAD_TIMEOUT")
        self._max_bytes = crawler.settings.getint("DOWNLOAD_MAXSIZE")
        self._pool.retryAutomatically = False
        endpoints = _Endpoints(reactor, self._contextFactory, self._timeout_s)
        self._agent = Agent.usingEndpointFactory(reactor, endpoints, self._pool)  # type: ignore[no-untyped-call]

    async def download_request(self, request: Request) -> Response:
        """The whole answer, or what its watch let through. Raises TooLarge, ShortBody, Refused, Twisted's errors."""
        answer = Deferred.fromCoroutine(self._answer(request))
        limit = self._reactor.callLater(self._timeout_s, answer.cancel)
        try:
            return await answer
        except Exception as error:
            if limit.active():
                raise
            raise Refused(refusal("timeout", threshold=self._timeout_s), request.url) from error
        finally:
            if limit.active():
                limit.cancel()

    async def _answer(self, request: Request) -> Response:
        url = request.url.partition("#")[0]
        sent: Any = FileBodyProducer(BytesIO(request.body)) if request.body else None  # type: ignore[no-untyped-call]
        answer: Any = await self._agent.request(
            request.method.encode(), url.encode("ascii"), SentHeaders(request.headers), sent
        )
        request.meta[ANSWERED_AT] = time.monotonic()
        num_bytes = None if answer.length is UNKNOWN_LENGTH else int(answer.length)
        headers = _headers(answer, num_bytes)
        watch: Watch | None = request.meta.get(WATCH)
        body = b""
        if watch is not None and watch.begins(headers, num_bytes):
            answer._transport.loseConnection()
        elif num_bytes != 0:  # of an answer without a body the end is never told
            reader = _Reader(watch, self._max_bytes, num_bytes or 0)
            answer.deliverBody(reader)
            body = await reader.body
        kind = Response if watch is not None else responsetypes.from_args(headers=headers, url=url, body=body)
        return kind(url=url, status=answer.code, headers=headers, body=body)


class _Reader(Protocol):
    """Collects a body until it ends, its watch has seen enough, or it is too large."""

    def __init__(self, watch: Watch | None, max_bytes: int, announced_bytes: int) -> None:
        self.body: Deferred[bytes] = Deferred(lambda _: _abort(self.transport))
        self._watch = watch
        self._max_bytes = max_bytes
        self._announced_bytes = announced_bytes
        self._num_bytes = 0
        self._parts: list[bytes] = []

    def connectionMade(self) -> None:
        if self._announced_bytes > self._max_bytes:
            self._refuse_size()

    def dataReceived(self, data: bytes) -> None:
        if self.body.called:
            return
        self._parts.append(data)
        self._num_bytes += len(data)
        if self._watch is not None and self._watch.goes_on(data):
            transport: Any = self.transport
            transport.loseConnection()
            self.body.callback(b"".join(self._parts))
        elif self._num_bytes > self._max_bytes:
            self._refuse_size()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.body.called:
            return
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.body.callback(b"".join(self._parts))
        else:
            self.body.errback(ShortBody())

    def _refuse_size(self) -> None:
        _abort(self.transport)
        self._parts = []
        self.body.errback(TooLarge())


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Twisted's standard way to each host, made once for all requests. Names are looked up for every connection."""

    def __init__(self, reactor: Any, policy: Any, timeout_s: float) -> None:
        self._reactor = reactor
        self._policy = policy
        self._timeout_s = timeout_s
        self._made: dict[tuple[bytes, bytes, int], Any] = {}

    def endpointForURI(self, uri: URI) -> Any:
        place = uri.scheme, uri.host, uri.port
        if place not in self._made:
            endpoint: Any = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=self._timeout_s)
            if uri.scheme == b"https":
                endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
            self._made[place] = endpoint
        return self._made[place]


def _headers(answer: Any, num_bytes: int | None) -> Headers:
    """Twisted keeps Content-Length to itself."""
    headers = Headers(answer.headers.getAllRawHeaders())
    if num_bytes is not None:
        headers.setdefault(b"Content-Length", str(num_bytes).encode())
    return headers


def _abort(transport: Any) -> None:
    """Close the connection at once; Twisted hides it behind what a response may see of it."""
    if transport._producer is not None:
        transport._producer.abortConnection()
