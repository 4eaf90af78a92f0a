"""What a child process can be told to do: fetch photos, hand over pages, run a spider.

All three ask through the one gate. Knows nothing of how the process is started, or of what comes of the rows.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.http import Headers, Response
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults
from twisted.python.failure import Failure

from crawl.fetching.downloader import PoliteDownloader
from crawl.fetching.errand import Errand, Fetcher
from crawl.fetching.gate import Gate, Refused
from crawl.fetching.journal import Journal
from crawl.fetching.target import Fetched, Target
from crawl.output import Output
from crawl.photo import Rejection
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import refusal
from crawl.record import to_record
from crawl.store import Store
from crawl.tombstones import read_tombstones

TELL_EVERY_S = 0.5
"""How often the parent hears of finished rows."""

Tell = Callable[..., None]
"""tell(record, body=b""): to the parent."""
Stop = Callable[[BaseException], None]
"""Ends the process and says why; does not return."""


class Work(Spider):
    """What Scrapy runs for a job that is no spider: a coroutine, for as long as it takes."""

    name = "work"

    def __init__(self, work: Callable[[Gate], Awaitable[None]], stop: Stop) -> None:
        super().__init__()
        self._work = work
        self._stop = stop

    async def start(self) -> AsyncIterator[Any]:
        try:
            await self._work(downloader_of(self.crawler).gate)
        except BaseException as error:
            self._stop(error)
        return
        yield  # an iterator of nothing


class Photos:
    """The targets of some hosts: hosts side by side, a host's targets one after the other."""

    def __init__(self, job: Mapping[str, Any], settings: FetchSettings, tell: Tell, stop: Stop) -> None:
        self._hosts = deque(job["hosts"])
        self._settings = settings
        output = Output(job["output"])
        self._store, self._tombstones = Store(output), read_tombstones(output)
        self._tell = tell
        self._stop = stop
        self._finished = Counter[str]()
        self._told_at = time.monotonic()

    async def run(self, gate: Gate) -> None:
        fetcher = Fetcher(self._settings, gate, self._store, lambda: datetime.now(UTC), self._tombstones)
        lanes = min(self._settings.hosts_at_once, len(self._hosts))
        await gatherResults([Deferred.fromCoroutine(self._lane(fetcher)) for _ in range(lanes)])
        self._tell({"rows": self._finished})

    async def _lane(self, fetcher: Fetcher) -> None:
        try:
            while self._hosts:
                await self._host(fetcher, self._hosts.popleft())
        except BaseException as error:
            self._stop(error)

    async def _host(self, fetcher: Fetcher, host: Mapping[str, str]) -> None:
        journal = Journal(host["journal"])
        with open(host["todo"], "rb") as todo:
            for line in todo:
                record = json.loads(line)
                row = await fetcher.fetch(_errand(record))
                journal.append({"key": record["key"], "row": to_record(row)})
                self._count(row)
        self._store.sync()
        journal.close()

    def _count(self, row: Fetched) -> None:
        self._finished["stored" if row.rejection is None else row.rejection.reason] += 1
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            self._tell({"rows": self._finished})
            self._finished, self._told_at = Counter(), now


class Pages:
    """One URL after the other, as the parent asks for them."""

    def __init__(self, job: Mapping[str, Any], asked: DeferredQueue[dict[str, Any]], tell: Tell) -> None:
        self._obey_robots = bool(job["obey_robots"])
        self._asked = asked
        self._tell = tell

    async def run(self, gate: Gate) -> None:
        while True:
            asked = await self._asked.get()
            try:
                request = Request(asked["url"], headers={"Accept-Encoding": "gzip, deflate"} | asked["headers"])
                response = await gate.get(request, self._obey_robots)
            except Refused as refused:
                self._tell({"refused": dataclasses.asdict(refused.rejection)})
            except ValueError:
                self._tell({"refused": dataclasses.asdict(refusal("bad_url"))})
            else:
                headers = _headers(response.headers)
                self._tell({"status": response.status, "url": response.url, "headers": headers}, response.body)


class Items:
    """A spider's items, and the requests of it that were refused, told one by one."""

    def __init__(self, crawler: Crawler, tell: Tell) -> None:
        self._crawler = crawler
        self._tell = tell
        crawler.signals.connect(self._opened, signals.spider_opened)
        crawler.signals.connect(self._scraped, signals.item_scraped)
        crawler.signals.connect(self._failed, signals.spider_error)

    def _opened(self) -> None:
        downloader_of(self._crawler).report = self._refused

    def _scraped(self, item: Any) -> None:
        record = dataclasses.asdict(item) if dataclasses.is_dataclass(item) else dict(item)  # type: ignore[arg-type]
        self._tell({"item": record, "type": type(item).__name__})

    def _refused(self, url: str, rejection: Rejection) -> None:
        self._tell({"refused": dataclasses.asdict(rejection), "url": url})

    def _failed(self, failure: Failure, response: Response | None) -> None:
        """A callback raised: one page is lost, and counted."""
        detail = f"{type(failure.value).__name__}: {failure.getErrorMessage()}"[:500]
        self._refused("" if response is None else response.url, refusal("error", detail=detail))


def downloader_of(crawler: Crawler) -> PoliteDownloader:
    downloader = crawler.engine.downloader
    assert isinstance(downloader, PoliteDownloader)
    return downloader


def _errand(record: Mapping[str, Any]) -> Errand:
    known = record["known"]
    target = Target(**record["target"])
    if known is None:
        return Errand(target)
    return Errand(target, Fetched(**(known | {"target": target, "signals": tuple(known["signals"])})))


def _headers(headers: Headers) -> dict[str, str]:
    """In lower case; of several of one name the last."""
    return {name.decode("latin-1").lower(): values[-1].decode("latin-1") for name, values in headers.items() if values}
