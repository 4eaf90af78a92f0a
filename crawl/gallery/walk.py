"""The way through a gallery: letters → people → pages of thumbnails → photo pages, one page after the other.

Every page and every person once; whatever leads nowhere is told with its reason. How a page is asked for is an
argument. Knows nothing of selectors or of Scrapy's engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass

from crawl.fetching.gate import Refused
from crawl.fetching.hosts import host_of
from crawl.fetching.target import Target
from crawl.gallery.page import Link, Page, folded, image_url, person_url
from crawl.policy.canonical import BadUrl, canonical
from crawl.policy.refusals import may_pass
from crawl.source_config import GallerySettings
from crawl.sources.listing import Sieve, Unlisted, unlisted

Ask = Callable[[str], Awaitable[Page]]
"""A URL's page. Raises Refused."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A person comes, or has been."""

    url: str
    begins: bool = False


class Walk:
    """One walk; what it finds, in the order of the gallery."""

    def __init__(
        self,
        settings: GallerySettings,
        names: Collection[str] | None,
        hosts: Collection[str],
        ask: Ask,
        done: Collection[str] = (),
    ) -> None:
        """`names`: whom to look for; None: everybody. `hosts`: whose pages may be asked for.

        `done`: addresses of people whose photos an earlier walk listed: they are passed by.
        """
        self._settings = settings
        self._names = None if names is None else {folded(name): name for name in reversed([*names])}
        self._hosts = hosts
        self._ask = ask
        self._sieve = Sieve(settings)
        self._done = frozenset(done)
        self._met: set[str] = set()

    async def items(self) -> AsyncIterator[Target | Unlisted | Passed]:
        """Photos of people, and what was seen and cannot be used; a Passed before and after each person's.

        Ends as soon as everybody named has been met.
        """
        async for link in self._links_to_people():
            if isinstance(link, Unlisted):
                yield link
                continue
            if link.url not in self._done:
                yield Passed(link.url, begins=True)
                async for item in self._person(link):
                    yield item
            yield Passed(link.url)
            if self._names is not None and len(self._met) == len(self._names):
                return
        for key, name in reversed((self._names or {}).items()):
            if key not in self._met:
                yield unlisted(name, self._settings.start_url, "no_such_person")

    async def _links_to_people(self) -> AsyncIterator[Link | Unlisted]:
        """To people who are wanted, each person once."""
        async for link in self._all_links():
            if isinstance(link, Unlisted):
                yield link
                continue
            name, key = link.name, folded(link.name)
            if not name:
                yield unlisted("", link.url, "no_name")
            elif key in self._met:
                yield unlisted(name, link.url, "namesake")
            elif self._names is None or key in self._names:
                self._met.add(key)
                yield Link(name if self._names is None else self._names[key], link.url)

    async def _all_links(self) -> AsyncIterator[Link | Unlisted]:
        template, seen = self._settings.person_url, set[str]()
        if template is not None:
            for name in reversed((self._names or {}).values()):
                url = person_url(template, name)
                yield Link(name, url) if _is_new(url, seen) else unlisted(name, url, "namesake")
            return
        async for page in self._list_pages():
            if isinstance(page, Unlisted):
                yield page
                continue
            for link in page.people(self._settings):
                if _is_new(link.url, seen):
                    yield link

    async def _list_pages(self) -> AsyncIterator[Page | Unlisted]:
        """Pages that list people. The page with the letters may be the first of them, or list nobody."""
        asked: set[str] = set()
        starts = [self._settings.start_url]
        if self._settings.letters is not None:
            page = await self._page(self._settings.start_url, "")
            yield page
            if isinstance(page, Unlisted):
                return
            _is_new(self._settings.start_url, asked)
            starts = page.links(self._settings.letters)
            if not starts:
                yield unlisted("", page.url, "nothing_found", detail="letters")
        for start in starts:
            async for page in self._pages(start, asked):
                yield page
                if isinstance(page, Page) and not page.people(self._settings):
                    yield unlisted("", page.url, "nothing_found", detail="person_links")

    async def _person(self, person: Link) -> AsyncIterator[Target | Unlisted]:
        seen: set[str] = set()
        first, stale = True, 0
        async for page in self._pages(person.url, set(), person.name):
            reason = page if isinstance(page, Unlisted) else self._no_use(page, person.name, first)
            if reason is not None:
                yield reason
                if first:
                    return
                continue
            assert isinstance(page, Page)
            links = [link for link in page.links(self._settings.thumbnails) if _is_new(link, seen)]
            if first and not links:
                yield unlisted(person.name, page.url, "nothing_found", detail="thumbnails")
            stale = 0 if links else stale + 1
            if stale > (self._settings.page_url is None):
                return  # one of the linked pages may be the first again, under another address
            first = False
            for link in links:
                yield await self._photo(person.name, link, page)
                if self._sieve.full(person.name):
                    return

    def _no_use(self, page: Page, name: str, first: bool) -> Unlisted | None:
        """Why nothing of a person's page may be, or is, wanted. The number of photos is on the first one."""
        least = self._settings.min_photos
        if page.signals:
            return unlisted(name, page.url, "opted_out", detail=page.signals[0])
        if not first or not least:
            return None
        count = page.photo_count(self._settings)
        if count is None:
            return unlisted(name, page.url, "nothing_found", detail="count")
        return unlisted(name, page.url, "too_few_photos", count, least) if count < least else None

    async def _photo(self, name: str, link: str, shown_on: Page) -> Target | Unlisted:
        image, page_url = image_url(self._settings, link), shown_on.url
        if self._settings.photo is not None:
            page = await self._page(link, name)
            if isinstance(page, Unlisted):
                return page
            if page.signals:
                return unlisted(name, page.url, "opted_out", detail=page.signals[0])
            images = page.images(self._settings)
            if not images:
                return unlisted(name, page.url, "nothing_found", detail="photo")
            image, page_url = images[0], page.url
        target = Target(name, image, page_url, self._settings.licence)
        return self._sieve.sift(target, page_url)

    async def _pages(self, url: str, asked: set[str], name: str = "") -> AsyncIterator[Page | Unlisted]:
        """A list's, or with a name a person's, pages that were not `asked` for; at most `max_pages`."""
        waiting = deque([url] if _is_new(url, asked) else [])
        more = self._settings.next_pages if name else self._settings.list_pages
        counted = self._settings.page_url if name else None
        for number in range(1, self._settings.max_pages + 1):
            if not waiting:
                return
            page = await self._page(waiting.popleft(), name)
            if counted is not None and number > 1 and _is_past_the_end(page):
                return
            yield page
            if isinstance(page, Page):
                waiting.extend(link for link in page.links(more) if _is_new(link, asked))
                if counted is not None:
                    waiting.append(counted.replace("{url}", url).replace("{page}", str(number + 1)))
        if waiting:
            yield unlisted(name, url, "page_depth", threshold=self._settings.max_pages)

    async def _page(self, url: str, name: str) -> Page | Unlisted:
        """A page that may be followed, or why it is not to be had."""
        try:
            if host_of(url) not in self._hosts:
                return unlisted(name, url, "other_host")
            return await self._ask(url)
        except BadUrl as error:
            return unlisted(name, url, error.reason)
        except Refused as refused:
            return Unlisted(name, url, refused.rejection, may_pass(refused.rejection))


def _is_past_the_end(page: Page | Unlisted) -> bool:
    return isinstance(page, Unlisted) and page.rejection.reason == "http_status" and page.rejection.value == 404


def _is_new(url: str, seen: set[str]) -> bool:
    """Whether it is met for the first time; what is no address is as good as any other once."""
    try:
        key = canonical(url)
    except BadUrl:
        key = url
    new = key not in seen
    seen.add(key)
    return new
