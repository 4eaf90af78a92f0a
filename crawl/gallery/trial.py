"""`python -m crawl try CONFIG.yaml URL [key=value …]`: what a gallery's selectors find on one page.

Asks for that page as the crawl would, through robots.txt and the address guard, and saves nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence

from crawl.config import CrawlRun, fetch_settings, load
from crawl.errors import InputError
from crawl.fetching.api import NoAnswer
from crawl.fetching.hosts import host_name
from crawl.fetching.session import Session
from crawl.gallery.page import Page
from crawl.policy.politeness import FetchSettings
from crawl.policy.signals import signals_in_headers, signals_in_html
from crawl.source_config import GallerySettings
from crawl.sources.gallery import MAX_PAGE_BYTES, gallery_hosts

_SHOWN = 3
"""Of what a selector finds."""


def try_command(arguments: Sequence[str]) -> int:
    """Print a line for every selector. Raises InputError for a page that is not to be had."""
    parser = argparse.ArgumentParser(
        prog="python -m crawl try", description="Show what a gallery's selectors find on one page; nothing is saved."
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="a run file with a source: gallery")
    parser.add_argument("url", metavar="URL", help="a page of that gallery: a list, a person's page, a photo page")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="for example crawl.photo='img.big'")
    parsed = parser.parse_args(arguments)
    run = load(CrawlRun, parsed.config, parsed.overrides)
    settings = _gallery(run, parsed.config, parsed.url)
    for line in try_page(settings, parsed.url, fetch_settings(run.crawl)):
        print(line)
    return 0


def try_page(settings: GallerySettings, url: str, fetch: FetchSettings) -> Iterator[str]:
    """What is found, line by line. Raises InputError when the page is refused or does not come."""
    try:
        with Session(dataclasses.replace(fetch, max_bytes=MAX_PAGE_BYTES), gallery_hosts(settings)) as session:
            answer = session.get(url, {}, {"Accept": "text/html"})
    except NoAnswer as error:
        raise InputError(f"{url}: {error.reason}") from None
    except OSError as error:
        raise InputError(str(error)) from None
    content_type = answer.headers.get("content-type", "")
    yield f"{url}: {answer.status}, {content_type or 'no Content-Type'}, {len(answer.body):,} bytes"
    signals = (
        *signals_in_headers(list(answer.headers.items()), fetch.agent),
        *signals_in_html(answer.body.decode("utf-8", "replace"), fetch.agent),
    )
    yield f"opt-out signals: {', '.join(signals) or 'none'}"
    yield from _findings(settings, Page(url, content_type, answer.body))


def _findings(settings: GallerySettings, page: Page) -> Iterator[str]:
    yield _line("letters", settings.letters, page.links(settings.letters))
    people = page.people(settings) if settings.person_links else []
    yield _line("person_links", settings.person_links, [f"{link.name!r} {link.url}" for link in people])
    yield _line("list_pages", settings.list_pages, page.links(settings.list_pages))
    count = page.photo_count(settings) if settings.count else None
    yield _line("count", settings.count, [] if count is None else [f"{count} photos"])
    yield _line("thumbnails", settings.thumbnails, page.links(settings.thumbnails))
    yield _line("next_pages", settings.next_pages, page.links(settings.next_pages))
    yield _line("photo", settings.photo, page.images(settings))


def _line(key: str, selector: str | None, found: Sequence[str]) -> str:
    if selector is None:
        return f"{key:<12} {'-':>5}  not set"
    more = [f"… {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "\n".join(
        [f"{key:<12} {len(found):>5}  {selector}", *(f"{'':20}{text}" for text in [*found[:_SHOWN], *more])]
    )


def _gallery(run: CrawlRun, config: str, url: str) -> GallerySettings:
    """The one whose hosts the page is on."""
    galleries = [source for source in run.crawl.sources if isinstance(source, GallerySettings)]
    if not galleries:
        raise InputError(f"{config}: crawl.source: no gallery among the sources")
    for settings in galleries:
        if host_name(url) in gallery_hosts(settings):
            return settings
    hosts = ", ".join(host for settings in galleries for host in gallery_hosts(settings))
    raise InputError(f"{url}: on none of the gallery's hosts ({hosts}); crawl.hosts names more")
