"""The `search` source: any image search that answers in JSON, as the configuration describes it.

The user's key comes from an environment variable that the configuration names; it goes to the configured host
and nowhere else, and into no message. Knows no provider. Fetches no photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urljoin, urlsplit, urlunsplit

from crawl.errors import InputError
from crawl.fetching.api import Api, NoAnswer, key_from, records_of, text_of, url_of
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.policy.canonical import canonical
from crawl.source_config import SearchSettings
from crawl.sources.json_path import parse_path, value_at
from crawl.sources.listing import Unlisted, listed, query_for, unlisted

Request = tuple[str, dict[str, str]]
"""URL without parameters, parameters without the key."""


class SearchSource:
    """An image search."""

    def __init__(self, settings: SearchSettings, api: Api, environment: Mapping[str, str]) -> None:
        """Raises InputError when the variable that `key_env` names is not set."""
        self._settings = settings
        self._api = api
        self._headers = {"accept": "application/json"}
        self._key: dict[str, str] = {}
        if settings.key_env:
            key = settings.key_prefix + key_from(environment, settings.key_env, "crawl.key_env")
            if settings.key_header:
                self._headers[settings.key_header.lower()] = key
            elif settings.key_parameter:
                self._key[settings.key_parameter] = key

    def find(self, person: Person) -> Iterator[Target | Unlisted]:
        """The person's images, in the order the search gives them. Raises InputError when the key is not accepted."""
        return listed(person, self._candidates(person), self._settings)

    def _candidates(self, person: Person) -> Iterator[Target | Unlisted]:
        wanted = query_for(person, self._settings.query)
        if wanted is None:
            yield unlisted(person.name, self._settings.query, "no_qid")
            return
        request: Request | None = self._first(wanted)
        for _ in range(self._settings.max_pages):
            if request is None:
                return
            document = self._ask(*request)
            results = value_at(document, parse_path(self._settings.results))
            if not isinstance(results, list | None):  # APIs leave an empty list out
                raise NoAnswer(self._settings.url, "unexpected_answer", retry=True)
            for result in records_of(results):
                yield self._candidate(person.name, result)
            request = self._following(document, request) if results else None
        if request is not None:
            yield unlisted(person.name, self._settings.url, "page_depth", threshold=self._settings.max_pages)

    def _first(self, wanted: str) -> Request:
        parameters = dict(self._settings.parameters) | {self._settings.query_parameter: wanted}
        if self._settings.page_parameter and not self._settings.next:
            parameters[self._settings.page_parameter] = str(self._settings.page_start)
        return self._settings.url, parameters

    def _ask(self, url: str, parameters: dict[str, str]) -> Any:
        try:
            return self._api.json(url, parameters | self._key, self._headers)
        except NoAnswer as error:
            if error.reason == "http_401" and self._settings.key_env:
                raise InputError(f"crawl.key_env: {self._settings.url} does not accept the key") from None
            raise

    def _following(self, document: Any, request: Request) -> Request | None:
        """The next page, None after the last."""
        url, parameters = request
        turn = self._settings.page_parameter
        if self._settings.next:
            token = value_at(document, parse_path(self._settings.next))
            text = str(token) if isinstance(token, int) and not isinstance(token, bool) else url_of(token)
            if text is None:
                return None
            following = self._link(text) if not turn else (url, parameters | {turn: text})
        elif turn:
            following = url, parameters | {turn: str(int(parameters[turn]) + self._settings.page_step)}
        else:
            return None
        return following if following != request else None

    def _link(self, link: str) -> Request:
        """A next page's URL, without the key it may repeat. Raises NoAnswer when it leads to another host."""
        try:
            there = urlsplit(urljoin(self._settings.url, link))
            same = _origin(there) == _origin(urlsplit(self._settings.url))
        except ValueError:
            same = False
        if not same:
            raise NoAnswer(self._settings.url, "next_page_elsewhere", retry=False)
        parameters = {key: value for key, value in parse_qsl(there.query, True) if key not in self._key}
        return urlunsplit((there.scheme, there.netloc, there.path, "", "")), parameters

    def _candidate(self, name: str, result: dict[str, Any]) -> Target | Unlisted:
        page_url = url_of(self._at(result, self._settings.page_url))
        url = url_of(self._at(result, self._settings.image_url))
        if url is None:
            return unlisted(name, page_url or self._settings.url, "no_url")
        return Target(
            name,
            url,
            page_url,
            text_of(self._at(result, self._settings.licence)),
            text_of(self._at(result, self._settings.author)),
            text_of(self._at(result, self._settings.attribution)),
        )

    def _at(self, result: dict[str, Any], path: str | None) -> Any:
        return None if path is None else value_at(result, parse_path(path))


def _origin(parts: SplitResult) -> str:
    return canonical(f"{parts.scheme}://{parts.netloc}")
