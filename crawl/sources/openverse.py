"""The `openverse` source: openly licensed images of many providers, with licence, author and attribution.

Speaks https://api.openverse.org/v1/ (images search). One query goes 240 results deep for most users, 20 a page
without a token; beyond that the API answers 401 or 400. Fetches no photo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from crawl.errors import InputError
from crawl.fetching.api import Api, NoAnswer, key_from, records_of, text_of, url_of
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.source_config import OpenverseSettings
from crawl.sources.licence import licence_allowed
from crawl.sources.listing import Unlisted, listed, query_for, unlisted

LICENCES = ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd", "cc0", "pdm", "sampling+", "nc-sampling+")
"""The API's own codes."""
_MAX_QUERY = 200
_TOO_DEEP = ("http_400", "http_401", "http_403", "http_404")


class OpenverseSource:
    """Openverse, asked for one person at a time."""

    def __init__(self, settings: OpenverseSettings, api: Api, environment: Mapping[str, str]) -> None:
        """Raises InputError when the variable that `token_env` names is not set."""
        self._settings = settings
        self._api = api
        self._headers = {"accept": "application/json"}
        if settings.token_env:
            self._headers["authorization"] = f"Bearer {key_from(environment, settings.token_env, 'crawl.token_env')}"

    def find(self, person: Person) -> Iterator[Target | Unlisted]:
        """The person's images, in order of relevance. Raises InputError when the token is not accepted."""
        return listed(person, self._candidates(person), self._settings)

    def _candidates(self, person: Person) -> Iterator[Target | Unlisted]:
        wanted = query_for(person, self._settings.query)
        if wanted is None:
            yield unlisted(person.name, self._settings.query, "no_qid")
            return
        pages = max(self._settings.max_results // self._settings.page_size, 1)
        for number in range(1, pages + 1):
            try:
                document = self._page(wanted, number)
            except NoAnswer as error:
                if number == 1 or error.reason not in _TOO_DEEP:
                    raise
                yield unlisted(person.name, self._settings.url, "page_depth", threshold=number - 1)
                return
            for image in records_of(document.get("results")):
                yield self._candidate(person.name, image)
            if not document["results"] or number >= _page_count(document):
                return
        yield unlisted(person.name, self._settings.url, "page_depth", threshold=pages)

    def _page(self, wanted: str, number: int) -> dict[str, Any]:
        parameters = dict(self._settings.parameters) | {
            "q": wanted[:_MAX_QUERY],
            "page": str(number),
            "page_size": str(self._settings.page_size),
        }
        licences = self._licences()
        if licences:
            parameters["license"] = ",".join(licences)
        try:
            document = self._api.json(self._settings.url, parameters, self._headers)
        except NoAnswer as error:
            if number == 1 and error.reason == "http_401" and self._settings.token_env:
                raise InputError(f"crawl.token_env: {self._settings.url} does not accept the token") from None
            raise
        if not isinstance(document, dict) or not isinstance(document.get("results"), list):
            raise NoAnswer(self._settings.url, "unexpected_answer", retry=True)
        return document

    def _licences(self) -> list[str]:
        """Those of the allowed ones that the API can filter by; it knows families, versions are sifted afterwards."""
        allowed = self._settings.allowed_licences or ()
        return [code for code in LICENCES if any(licence_allowed(licence, [_full(code)]) for licence in allowed)]

    def _candidate(self, name: str, image: dict[str, Any]) -> Target | Unlisted:
        page_url, url = url_of(image.get("foreign_landing_url")), url_of(image.get("url"))
        where = page_url or url or text_of(image.get("id")) or self._settings.url
        if url is None:
            return unlisted(name, where, "no_url")
        sides = [side for side in (image.get("width"), image.get("height")) if isinstance(side, int) and side > 0]
        if sides and min(sides) < self._settings.min_side_px:
            return unlisted(name, where, "too_small", min(sides), self._settings.min_side_px)
        return Target(
            name, url, page_url, _licence(image), text_of(image.get("creator")), text_of(image.get("attribution"))
        )


def _page_count(document: dict[str, Any]) -> float:
    count = document.get("page_count")
    return count if isinstance(count, int) else math.inf


def _licence(image: dict[str, Any]) -> str | None:
    """As Commons writes it: `CC BY-SA 2.0`, `CC0 1.0`, `PDM 1.0`."""
    code, version = text_of(image.get("license")), text_of(image.get("license_version"))
    if code is None:
        return None
    return " ".join(part for part in (_full(code.upper()), version) if part)


def _full(code: str) -> str:
    return code if code.lower() in ("cc0", "pdm") else f"CC {code}"
