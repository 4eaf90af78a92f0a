"""The gate that every request of the crawler passes: address, robots.txt, pace, retries, redirects.

It owns some hosts and asks no other, so that whoever divides hosts among tasks divides the load on them.
The download itself, the clock and sleep are arguments. Knows nothing of photos, tables or Scrapy's engine.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Coroutine
from datetime import datetime
from random import Random
from typing import Any, Generic, TypeVar
from urllib.parse import urljoin

from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from crawl.fetching.api import retry_after_s
from crawl.fetching.hosts import host_of, origin_of
from crawl.fetching.watch import ANSWERED_AT, WATCH, Enough
from crawl.photo import Rejection
from crawl.policy.canonical import BadUrl
from crawl.policy.guard import may_request
from crawl.policy.politeness import FetchSettings, Pace
from crawl.policy.refusals import MAX_REDIRECTS, refusal, status_may_pass
from crawl.policy.robots import MAX_BYTES as MAX_ROBOTS_BYTES
from crawl.policy.robots import Robots
from crawl.policy.tdm import MAX_BYTES as MAX_TDM_BYTES
from crawl.policy.tdm import PATH as TDM_PATH
from crawl.policy.tdm import Tdm

_REDIRECTS = (301, 302, 303, 307, 308)
_KEPT_HEADERS = (b"User-Agent", b"Accept", b"Accept-Encoding", b"Accept-Language")
"""What may follow a redirect."""
_NEVER_SENT = frozenset((b"Cookie", b"Referer", b"Proxy-Authorization"))
_RETRIED_AT_ONCE = ("connection", "short_body")
_FAILURES = (*_RETRIED_AT_ONCE, "timeout", "tls", "error")
_PASSED_ON = ("not_public", "bad_url", "dns", "host_unavailable", "partition_timeout")
"""Why a robots.txt was not had, where that says more than `robots_unreachable`."""

Found = TypeVar("Found")
Download = Callable[[Request], Awaitable[Response]]
"""Asks once. Raises Refused when there is no answer."""


class Refused(IgnoreRequest):
    """A request that was not made, or not answered."""

    def __init__(self, rejection: Rejection, url: str) -> None:
        super().__init__(f"{url}: {rejection.reason}")
        self.rejection = rejection
        self.url = url


class _Host:
    """One host: its pace, and the lock that keeps it at one request in flight."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.in_flight = DeferredLock()
        self.keeps_connection = False


class _Once(Generic[Found]):
    """A question that is being asked, and its answer for everybody who wants it, in the order they came."""

    def __init__(self, question: Coroutine[Any, Any, Found]) -> None:
        self._waiting: list[Deferred[None]] = []
        self._result: Found | Failure | None = None
        Deferred.fromCoroutine(question).addBoth(self._tell)

    async def answer(self) -> Found:
        if self._result is None:
            self._waiting.append(Deferred())
            await self._waiting[-1]
        if isinstance(self._result, Failure):
            self._result.raiseException()
        return self._result  # type: ignore[return-value]

    def _tell(self, result: Found | Failure) -> None:
        self._result = result
        for waiting in self._waiting:
            waiting.callback(None)


class Gate:
    """Asks for what may be asked for, when it may."""

    def __init__(
        self,
        settings: FetchSettings,
        hosts: Collection[str],
        download: Download,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        now: Callable[[], datetime],
        begun_at: float = -math.inf,
    ) -> None:
        """`hosts`: as `host_of` spells them. `clock`: seconds, monotonic.

        `begun_at`, by that clock: since when nobody else asks these hosts.
        """
        self._settings = settings
        self._owned = hosts
        self._download = download
        self._clock = clock
        self._sleep = sleep
        self._now = now
        self._begun_at = begun_at
        self._deadline = clock() + settings.partition_timeout_s
        self._hosts: dict[str, _Host] = {}
        self._admitted: dict[str, _Host] = {}
        """Origin → host, of those that were found to be ours to ask."""
        self._robots: dict[str, _Once[Robots | Rejection]] = {}
        self._tdm: dict[str, _Once[Tdm]] = {}

    async def get(self, request: Request, obey_robots: bool = True, anywhere: bool = False) -> Response:
        """The answer, of whatever status, after redirects and retries.

        `obey_robots=False` is for robots.txt itself and for an API's documented address, which it does not
        speak of; `anywhere` for a redirected robots.txt. Raises Refused.
        """
        asked: list[str] = []
        while True:
            host = self._host(request.url, anywhere)
            if obey_robots:
                await self._obey_robots(host, request.url)
            response = await self._answer(host, request)
            location = response.headers.get(b"Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            asked.append(request.url)
            request = self._redirected(request, location, asked)

    async def tdm(self, url: str) -> Tdm:
        """The TDM reservations of the URL's origin, asked for once and once only."""
        origin = origin_of(url)
        if origin not in self._tdm:
            self._tdm[origin] = _Once(self._ask_tdm(self._host(url, anywhere=False), origin))
        return await self._tdm[origin].answer()

    def _host(self, url: str, anywhere: bool) -> _Host:
        """The host that the URL leads to. Raises Refused for what may not be asked at all."""
        settings = self._settings
        try:
            origin = origin_of(url)
            if origin in self._admitted:
                return self._admitted[origin]
            name = host_of(url)
        except BadUrl:
            raise Refused(refusal("bad_url"), url) from None
        if not may_request(url, settings.own_hosts, settings.allowed_networks):
            raise Refused(refusal("not_public", detail=name), url)
        if not anywhere and name not in self._owned:
            raise Refused(refusal("moved", detail=url), url)
        if name not in self._hosts:
            self._hosts[name] = _Host(Pace(settings, Random(f"{settings.seed} {name}"), self._begun_at))
        if name in self._owned:
            self._admitted[origin] = self._hosts[name]
        return self._hosts[name]

    async def _obey_robots(self, host: _Host, url: str) -> None:
        origin = origin_of(url)
        if origin not in self._robots:
            self._robots[origin] = _Once(self._ask_robots(host, origin))
        robots = await self._robots[origin].answer()
        if isinstance(robots, Rejection):
            raise Refused(robots, url)
        if not robots.allows(url):
            raise Refused(refusal("robots_disallowed"), url)

    async def _ask_robots(self, host: _Host, origin: str) -> Robots | Rejection:
        request = Request(f"{origin}/robots.txt", meta={WATCH: Enough(MAX_ROBOTS_BYTES)})
        try:
            response = await self.get(request, obey_robots=False, anywhere=True)
        except Refused as refused:
            reason = refused.rejection.reason
            return refused.rejection if reason in _PASSED_ON else refusal("robots_unreachable", detail=reason)
        robots = Robots.from_answer(response.status, response.body, self._settings.agent)
        if robots.unreachable:
            return refusal("robots_unreachable", detail=f"http {response.status}")
        host.pace.slow_down(robots.crawl_delay_s)
        return robots

    async def _ask_tdm(self, host: _Host, origin: str) -> Tdm:
        request = Request(origin + TDM_PATH, meta={WATCH: Enough(MAX_TDM_BYTES + 1)})
        try:
            response = await self._ask(host, request)
        except Refused:
            return Tdm.from_answer(None, b"")
        return Tdm.from_answer(response.status, response.body)

    async def _answer(self, host: _Host, request: Request) -> Response:
        """One URL's answer, asked for again while that may help."""
        attempt = 0
        while True:
            try:
                response = await self._ask(host, request)
            except Refused as refused:
                rejection = refused.rejection
                if rejection.reason == "connection" and host.keeps_connection:
                    host.keeps_connection = False  # it may have been closed just then, which is nobody's fault
                    continue
                if rejection.reason not in _FAILURES:
                    raise
                again = rejection.reason in _RETRIED_AT_ONCE
                if not self._has_failed(host, attempt, again, None):
                    raise
            else:
                host.keeps_connection = True
                if not status_may_pass(response.status):
                    host.pace.succeeded()
                    return response
                if not self._has_failed(host, attempt, True, response):
                    return response
            attempt += 1

    def _has_failed(self, host: _Host, attempt: int, again: bool, response: Response | None) -> bool:
        """Take note of a failure; whether to ask again."""
        host.pace.back_off(self._clock(), attempt, self._retry_after_s(response))
        if again and attempt < self._settings.retries and host.pace.closed is None:
            return True
        host.pace.failed()
        return False

    async def _ask(self, host: _Host, request: Request) -> Response:
        """Ask once, when it is this request's turn."""
        await host.in_flight.acquire()
        try:
            await self._turn(host, request.url)
            request.meta.pop(ANSWERED_AT, None)
            try:
                return await self._download(self._prepared(request))
            finally:
                host.pace.asked(request.meta.get(ANSWERED_AT) or self._clock())
        finally:
            host.in_flight.release()

    async def _turn(self, host: _Host, url: str) -> None:
        while True:
            if host.pace.closed is not None:
                raise Refused(refusal("host_unavailable", detail=host.pace.closed), url)
            now = self._clock()
            wait_s = host.pace.wait_s(now)
            if now + wait_s >= self._deadline:
                raise Refused(refusal("partition_timeout", threshold=self._settings.partition_timeout_s), url)
            if wait_s <= 0:
                return
            await self._sleep(wait_s)

    def _prepared(self, request: Request) -> Request:
        """With our name and nobody's cookies."""
        for name in _NEVER_SENT.intersection(request.headers):
            del request.headers[name]
        request.headers[b"User-Agent"] = self._settings.agent
        request.headers.setdefault(b"Accept-Encoding", b"identity")
        return request

    def _redirected(self, request: Request, location: bytes, asked: list[str]) -> Request:
        """Raises Refused for a circle, for too many, and for what is no web address."""
        try:
            url = urljoin(request.url, location.decode("utf-8", "replace").strip())
            onward = Request(url.partition("#")[0], meta={WATCH: request.meta.get(WATCH)})
        except ValueError:
            raise Refused(refusal("bad_url"), request.url) from None
        if onward.url in asked:
            raise Refused(refusal("redirect_loop"), onward.url)
        if len(asked) > MAX_REDIRECTS:
            raise Refused(refusal("too_many_redirects", len(asked), MAX_REDIRECTS), onward.url)
        for name in _KEPT_HEADERS:
            if name in request.headers:
                onward.headers[name] = request.headers[name]
        return onward

    def _retry_after_s(self, response: Response | None) -> float | None:
        if response is None:
            return None
        told = {name: (response.headers.get(name) or b"").decode("latin-1") for name in ("retry-after", "date")}
        return retry_after_s(told, self._now())
