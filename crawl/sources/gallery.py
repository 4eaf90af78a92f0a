"""The `gallery` source: a web gallery walked by selectors, page by page, in a child process that runs Scrapy.

Fetches pages and no photo. A run file's list of people says whom to look for.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crawl.fetching.hosts import host_of
from crawl.fetching.journal import Journal, read_journal
from crawl.fetching.session import Item, RefusedPage, run_spider
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.photo import Rejection
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import may_pass
from crawl.source_config import GallerySettings
from crawl.sources.listing import Unlisted

MAX_PAGE_BYTES = 16 * 2**20
"""Of one page; a larger one is no page for people."""
_MONTH_S = 30 * 86_400.0
"""A gallery of a thousand people takes days, politely."""
_SPIDER = "crawl.gallery.spider:GallerySpider"


class GallerySource:
    """One gallery."""

    def __init__(self, settings: GallerySettings, fetch: FetchSettings) -> None:
        """Raises BadUrl for hosts that are none."""
        self._settings = settings
        self._fetch = dataclasses.replace(
            fetch,
            max_bytes=min(fetch.max_bytes, MAX_PAGE_BYTES),
            partition_timeout_s=max(fetch.partition_timeout_s, _MONTH_S),
        )
        self._hosts = gallery_hosts(settings)

    @property
    def all_people(self) -> bool:
        """Whether everybody may be crawled when nobody is named."""
        return self._settings.all_people

    def find(self, people: Sequence[Person], journal: str | None = None) -> Iterator[Target | Unlisted]:
        """The photos of these people, of everybody when there are none, in the order of the gallery.

        `journal`: a local file. Whom an earlier walk of the same gallery finished is read from it, and whom this
        one finishes is added. A walk that was cut short says so in its last entry, `listing_failed`.
        Raises ChildKilled, ChildFailed, and OSError when the disk is full.
        """
        done = {} if journal is None else {line["url"]: line["items"] for line in read_journal(journal)}
        with contextlib.ExitStack() as stack:
            diary = None if journal is None else stack.enter_context(contextlib.closing(Journal(journal)))
            person = _Person(diary, done)
            for item in run_spider(_SPIDER, self._arguments(people, [*done]), self._hosts, self._fetch):
                if isinstance(item, RefusedPage):
                    yield Unlisted("", item.url, item.rejection, may_pass(item.rejection))
                elif item.type == "Walked":
                    return
                elif item.type == "Passed":
                    yield from person.passed(**item.fields)
                else:
                    yield person.listed(item)
        yield Unlisted("", self._settings.start_url, Rejection("crawl", "listing_failed"), retry=True)

    def _arguments(self, people: Sequence[Person], done: Sequence[str]) -> dict[str, Any]:
        return {
            "gallery": self._settings.model_dump(mode="json"),
            "names": [person.name for person in people] or None,
            "hosts": self._hosts,
            "agent": self._fetch.agent,
            "done": done,
        }


class _Person:
    """The person whom the walk is at: all that is found of one goes into the journal at once, when it is complete."""

    def __init__(self, journal: Journal | None, done: Mapping[str, list[dict[str, Any]]]) -> None:
        self._journal = journal
        self._done = done
        self._items: list[dict[str, Any]] | None = None

    def listed(self, item: Item) -> Target | Unlisted:
        if self._items is not None:
            self._items.append({"type": item.type, "fields": item.fields})
        return _listed(item)

    def passed(self, url: str, begins: bool) -> Iterator[Target | Unlisted]:
        """At the end of a person who was known before, what is known."""
        if begins:
            self._items = []
            return
        if self._items is None:
            yield from (_listed(Item(**record)) for record in self._done[url])
        elif self._journal is not None and not any(record["fields"].get("retry") for record in self._items):
            self._journal.append({"url": url, "items": self._items})
        self._items = None


def _listed(item: Item) -> Target | Unlisted:
    if item.type == "Target":
        return Target(**item.fields)
    return Unlisted(**(item.fields | {"rejection": Rejection(**item.fields["rejection"])}))


def gallery_hosts(settings: GallerySettings) -> list[str]:
    """The hosts whose pages are followed, as `host_of` spells them. Raises BadUrl."""
    return sorted({host_of(settings.start_url), *(host_of(f"http://{host}") for host in settings.hosts)})
