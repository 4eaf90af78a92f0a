"""Pages and spiders through the same gate as photos: one child process, asked for as long as it is needed.

For sources that list photos. Knows nothing of any API, or of what a page says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from crawl.fetching.api import Answer, NoAnswer
from crawl.fetching.hosts import host_of
from crawl.fetching.process import Child
from crawl.photo import Rejection
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import may_pass


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """What a spider yielded: a dataclass's name and its fields, or a dict."""

    type: str
    fields: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedPage:
    """A page that a spider asked for in vain."""

    url: str
    rejection: Rejection


class Session:
    """Asks for one page after the other, of these hosts only; `get` is what `crawl.fetching.api.Api` wants.

    For a documented API, whose users are known by their name or key, `obey_robots=False`: a robots.txt speaks
    of crawling pages, and Wikimedia's, for one, keeps crawlers out of its API's address. Retries are the caller's.
    """

    def __init__(self, settings: FetchSettings, hosts: Collection[str], obey_robots: bool = True) -> None:
        patient = dataclasses.replace(settings, retries=0, breaker_failures=10**9)
        job = {"kind": "pages", "settings": dataclasses.asdict(patient), "hosts_owned": sorted(hosts)}
        self._child = Child(job | {"obey_robots": obey_robots})
        self._heard = self._child.heard()

    def get(self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The answer, of whatever status, redirects within the hosts followed.

        Raises NoAnswer for what must not be asked or was refused, OSError for what did not come.
        """
        query = urlencode(parameters)
        whole = f"{url}{'&' if urlsplit(url).query else '?'}{query}" if query else url
        self._child.say({"url": whole, "headers": dict(headers)})
        record, body = next(self._heard)
        refused = record.get("refused")
        if refused is None:
            return Answer(record["status"], record["headers"], body)
        rejection = Rejection(**refused)
        if rejection.reason in ("connection", "short_body", "timeout"):
            raise OSError(f"{url}: {rejection.reason}")
        raise NoAnswer(url, rejection.reason, retry=may_pass(rejection))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._child.__exit__(kind, error, at)


def run_spider(
    spider: str, arguments: Mapping[str, Any], hosts: Collection[str], settings: FetchSettings
) -> Iterator[Item | RefusedPage]:
    """What a Scrapy spider, `module:Class`, yields, as it comes, and the pages it asked for in vain.

    `arguments` go to the spider and must be JSON; it may ask these hosts only. Raises ChildKilled, ChildFailed.
    """
    job = {"kind": "spider", "settings": dataclasses.asdict(settings), "hosts_owned": sorted(hosts)}
    with Child(job | {"spider": spider, "arguments": dict(arguments)}, settings.partition_timeout_s) as child:
        for record, _ in child.heard():
            if "item" in record:
                yield Item(record["type"], record["item"])
            else:
                yield RefusedPage(record["url"], Rejection(**record["refused"]))


__all__ = ["Item", "RefusedPage", "Session", "host_of", "run_spider"]
