"""The `commons` source: files of Wikimedia Commons, or another MediaWiki, with their licences and authors.

Speaks the action API: https://www.mediawiki.org/wiki/API:Query, API:Imageinfo, API:Continue, Manual:Maxlag_parameter;
`extmetadata` as in https://commons.wikimedia.org/wiki/Commons:Machine-readable_data. Fetches no photo.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from crawl.fetching.api import BUSY, Api, NoAnswer, records_of, text_of, url_of
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.source_config import CommonsSettings
from crawl.sources.listing import Unlisted, listed, query_for, unlisted

FORMATS = ("image/jpeg", "image/png", "image/webp")
_NOT_NOW = ("maxlag", "ratelimited", "readonly")
_TAG = re.compile(r"<[^<>]*>")
_MAX_HTML = 20_000
_FIELDS = "Artist|Attribution|LicenseShortName|License|UsageTerms|NonFree"


class CommonsSource:
    """A wiki's files, by search or category."""

    def __init__(self, settings: CommonsSettings, api: Api) -> None:
        self._settings = settings
        self._api = api

    def find(self, person: Person) -> Iterator[Target | Unlisted]:
        """The person's files, in the order the wiki gives them."""
        return listed(person, self._candidates(person), self._settings)

    def _candidates(self, person: Person) -> Iterator[Target | Unlisted]:
        template = self._settings.query if self._settings.find == "search" else self._settings.category
        wanted = query_for(person, template)
        if wanted is None:
            yield unlisted(person.name, template, "no_qid")
            return
        for page in self._pages(wanted):
            yield self._candidate(person.name, page)

    def _pages(self, wanted: str) -> Iterator[dict[str, Any]]:
        """File pages, each once its batch is complete: imageinfo may come an answer later than the page itself."""
        more: dict[str, str] = {}
        batch: dict[Any, dict[str, Any]] = {}
        for _ in range(self._settings.max_requests):
            document = self._api.json(self._settings.url, self._parameters(wanted) | more, fault=_fault)
            if not isinstance(document, dict):
                raise NoAnswer(self._settings.url, "unexpected_answer", retry=True)
            query = document.get("query")
            for page in records_of(query.get("pages") if isinstance(query, dict) else None):
                _merge(batch.setdefault(page.get("pageid"), {}), page)
            following = _continue(document)
            if "batchcomplete" in document or not following:
                yield from sorted(batch.values(), key=_place)
                batch = {}
            if not following:
                return
            if following == more:
                raise NoAnswer(self._settings.url, "unexpected_answer", retry=True)
            more = following
        yield from sorted(batch.values(), key=_place)
        raise NoAnswer(self._settings.url, "max_requests", retry=False)

    def _parameters(self, wanted: str) -> dict[str, str]:
        batch = str(self._settings.batch)
        if self._settings.find == "search":
            generator = {"generator": "search", "gsrsearch": wanted, "gsrnamespace": "6", "gsrlimit": batch}
        else:
            generator = {"generator": "categorymembers", "gcmtitle": wanted, "gcmtype": "file", "gcmlimit": batch}
        return generator | {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "maxlag": str(self._settings.maxlag_s),
            "prop": "imageinfo",
            "iiprop": "url|size|mime|extmetadata|sha1",
            "iiextmetadatafilter": _FIELDS,
            "iiextmetadatalanguage": "en",
        }

    def _candidate(self, name: str, page: dict[str, Any]) -> Target | Unlisted:
        info = next(iter(records_of(page.get("imageinfo"))), {})
        page_url, url = url_of(info.get("descriptionurl")), url_of(info.get("url"))
        where = page_url or text_of(page.get("title")) or self._settings.url
        if url is None:
            return unlisted(name, where, "no_url")
        if info.get("mime") not in FORMATS:
            return unlisted(name, where, "format", detail=text_of(info.get("mime")))
        side = _short_side(info)
        if side is not None and side < self._settings.min_side_px:
            return unlisted(name, where, "too_small", side, self._settings.min_side_px)
        extra = info.get("extmetadata")
        metadata = extra if isinstance(extra, dict) else {}
        if (_plain(metadata, "NonFree") or "").lower() in ("true", "1"):
            return unlisted(name, where, "non_free")
        return _target(name, url, page_url, metadata)


def _target(name: str, url: str, page_url: str | None, metadata: dict[str, Any]) -> Target:
    licence = next((t for f in ("LicenseShortName", "License", "UsageTerms") if (t := _plain(metadata, f))), None)
    author = _plain(metadata, "Artist")
    attribution = _plain(metadata, "Attribution")
    if attribution is None and author and licence:
        attribution = f"{author}, {licence}, via Wikimedia Commons"
    return Target(name, url, page_url, licence, author, attribution)


def _fault(document: Any) -> str | None:
    """Errors come with status 200: https://www.mediawiki.org/wiki/API:Errors_and_warnings."""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return None
    code = text_of(error.get("code")) or "unknown"
    if code in _NOT_NOW or code.startswith("internal_api_error"):
        return BUSY
    return f"api_error: {re.sub('[^a-z0-9_-]', '', code.lower())[:60]}"


def _continue(document: dict[str, Any]) -> dict[str, str]:
    """The parameters that ask for the next part; {} at the end."""
    following = document.get("continue")
    if not isinstance(following, dict):
        return {}
    return {str(key): str(value) for key, value in following.items() if isinstance(value, str | int)}


def _merge(known: dict[str, Any], page: dict[str, Any]) -> None:
    for key, value in page.items():
        if not known.get(key):
            known[key] = value


def _place(page: dict[str, Any]) -> tuple[int, int]:
    """Search results carry their rank; a category's files have none, and come in order of their pages."""
    return _integer(page.get("index")) or 0, _integer(page.get("pageid")) or 0


def _short_side(info: dict[str, Any]) -> int | None:
    sides = [_integer(info.get("width")), _integer(info.get("height"))]
    known = [side for side in sides if side is not None]
    return min(known) if known else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(metadata: dict[str, Any], field: str) -> str | None:
    """A field's text without its HTML."""
    entry = metadata.get(field)
    value = entry.get("value") if isinstance(entry, dict) else None
    return text_of(html.unescape(_TAG.sub(" ", value[:_MAX_HTML]))) if isinstance(value, str) else None
