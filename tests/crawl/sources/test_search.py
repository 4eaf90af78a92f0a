"""The search source against loopback APIs of three kinds: counted pages, offsets in the answer, links to the next."""

import http.client
import json
import logging
from datetime import UTC, datetime
from random import Random
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from pydantic import ValidationError

from crawl.errors import InputError
from crawl.fetching.api import Answer, Api, Patience
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.source_config import SearchSettings
from crawl.sources.listing import Unlisted
from crawl.sources.search import SearchSource

ADA = Person("0" * 16, "Ada Lovelace", "test", "text")
KEY = "s3cret"
ENVIRONMENT = {"MY_KEY": KEY}


def get(url, parameters, headers):
    """What the crawler's fetcher does, without its guard."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("GET", f"{parts.path}?{urlencode(parameters)}", headers=dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class Provider:
    """`answer(parameters, hit)` gives a document; what was asked is kept."""

    def __init__(self, answer, trouble=()):
        self.answer = answer
        self.trouble = list(trouble)
        self.asked = []
        self.headers = []

    def __call__(self, exchange):
        query = urlsplit(exchange.hit.path).query
        asked = {k: v[0] for k, v in parse_qs(query, keep_blank_values=True, strict_parsing=True).items()}
        self.asked.append(asked)
        self.headers.append(dict(exchange.hit.headers))
        status, headers, document = self.trouble.pop(0) if self.trouble else (200, (), self.answer(asked))
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
        exchange.finish("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@pytest.fixture
def listed(hostile_server):
    def find(provider, options, slept=None, path="/v1/images", environment=ENVIRONMENT):
        server = hostile_server(routes={path: provider})
        provider.url = server.url(path)
        settings = SearchSettings(source="search", url=server.url(path), **options)
        sleep = (slept if slept is not None else []).append
        api = Api(get, sleep, lambda: datetime(2026, 3, 1, tzinfo=UTC), Random(0), Patience(attempts=3))
        return list(SearchSource(settings, api, environment).find(ADA))

    return find


def reasons(entries):
    return [
        (e.rejection.reason, e.rejection.detail or e.rejection.threshold) for e in entries if isinstance(e, Unlisted)
    ]


def numbers(entries):
    return [int(e.image_url.rpartition("/")[2]) for e in entries if isinstance(e, Target)]


COUNTED = {
    "results": "hits",
    "image_url": "photo.full",
    "page_url": "link",
    "licence": "rights[0].name",
    "author": "by",
    "attribution": "credit",
    "page_parameter": "page",
    "key_env": "MY_KEY",
    "key_parameter": "key",
}


def counted(total, size=3):
    """Pages are counted from 1; the last is empty."""

    def answer(asked):
        start = (int(asked["page"]) - 1) * size
        return {"hits": [hit(n) for n in range(start, min(start + size, total))]}

    return answer


def hit(number):
    return {
        "photo": {"full": f"http://images.example/{number}", "thumb": "http://images.example/t"},
        "link": f"http://pages.example/{number}",
        "rights": [{"name": "CC BY 4.0"}],
        "by": "P. Hoto",
        "credit": "P. Hoto / Example",
    }


def test_fields_come_from_where_the_configuration_says(listed):
    provider = Provider(counted(1))
    assert listed(provider, COUNTED | {"parameters": {"safe": "on"}}) == [
        Target(
            "Ada Lovelace",
            "http://images.example/0",
            "http://pages.example/0",
            "CC BY 4.0",
            "P. Hoto",
            "P. Hoto / Example",
        )
    ]
    assert provider.asked[0] == {"q": '"Ada Lovelace"', "safe": "on", "page": "1", "key": KEY}


def test_counted_pages_end_with_an_empty_one(listed):
    provider = Provider(counted(7))
    assert numbers(listed(provider, COUNTED)) == list(range(7))
    assert [a["page"] for a in provider.asked] == ["1", "2", "3", "4"]


def test_counted_offsets(listed):
    provider = Provider(lambda asked: counted(7)({"page": int(asked["page"]) // 3 + 1}))
    options = COUNTED | {"page_start": 0, "page_step": 3}
    assert numbers(listed(provider, options)) == list(range(7))
    assert [a["page"] for a in provider.asked] == ["0", "3", "6", "9"]


def test_one_page_where_nothing_says_how_to_turn_it(listed):
    provider = Provider(lambda asked: {"hits": [hit(1)]})
    options = {key: value for key, value in COUNTED.items() if key != "page_parameter"}
    assert numbers(listed(provider, options)) == [1]
    assert len(provider.asked) == 1


def test_no_more_requests_once_the_person_has_enough(listed):
    provider = Provider(counted(100))
    assert numbers(listed(provider, COUNTED | {"max_photos": 4})) == [0, 1, 2, 3]
    assert len(provider.asked) == 2


def test_more_pages_than_are_wanted_are_said(listed):
    entries = listed(Provider(counted(100)), COUNTED | {"max_pages": 2})
    assert numbers(entries) == list(range(6))
    assert reasons(entries) == [("page_depth", 2)]


def test_a_query_by_qid_needs_one(listed):
    provider = Provider(counted(1))
    (entry,) = listed(provider, COUNTED | {"query": "{name} {qid}"})
    assert (entry.rejection.reason, entry.where) == ("no_qid", "{name} {qid}")
    assert provider.asked == []


def test_the_next_offset_comes_with_the_answer(listed):
    def answer(asked):
        start = int(asked.get("start", "1"))
        items = [{"link": f"http://images.example/{n}"} for n in range(start, min(start + 10, 26))]
        following = {"nextPage": [{"startIndex": start + 10}]} if start + 10 < 26 else {}
        return {"queries": {"request": [{}]} | following, "items": items}

    options = {
        "results": "items",
        "image_url": "link",
        "page_parameter": "start",
        "next": "queries.nextPage[0].startIndex",
        "key_env": "MY_KEY",
        "key_header": "X-Subscription-Token",
    }
    provider = Provider(answer)
    assert numbers(listed(provider, options)) == list(range(1, 26))
    assert [a.get("start") for a in provider.asked] == [None, "11", "21"]
    assert all(KEY not in a.values() for a in provider.asked)
    assert {h["x-subscription-token"] for h in provider.headers} == {KEY}


def test_a_link_to_the_next_page(listed):
    def answer(asked):
        number = int(asked.get("cursor", "0"))
        links = {1: f"{provider.url}?cursor=2&key={KEY}&empty=", 0: "/v1/images?cursor=1"}
        return [{"src": f"http://images.example/{number}", "next": links.get(number)}]

    provider = Provider(answer)
    options = {"results": "$", "image_url": "src", "next": "$[0].next", "key_env": "MY_KEY", "key_parameter": "key"}
    assert numbers(listed(provider, options)) == [0, 1, 2]
    assert [a["key"] for a in provider.asked] == [KEY] * 3
    assert provider.asked[2] == {"cursor": "2", "empty": "", "key": KEY}


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1/images",
        "//evil.example/v1/images",
        "http://127.0.0.1:1/v1/images",
        "http://user@127.0.0.1/v1/images",
        "https://127.0.0.1/v1/images",
        "http://[bad/",
        "file:///etc/passwd",
    ],
)
def test_the_key_goes_nowhere_else(listed, link):
    provider = Provider(lambda asked: {"hits": [{"src": "http://images.example/1"}], "next": link})
    options = {"results": "hits", "image_url": "src", "next": "next", "key_env": "MY_KEY", "key_parameter": "key"}
    entries = listed(provider, options)
    assert numbers(entries) == [1]
    assert reasons(entries) == [("listing_failed", "next_page_elsewhere")]
    assert len(provider.asked) == 1


def test_a_next_page_that_is_this_one_ends(listed):
    provider = Provider(lambda asked: {"hits": [{"src": "http://images.example/1"}], "next": "same"})
    options = {"results": "hits", "image_url": "src", "next": "next", "page_parameter": "cursor"}
    assert numbers(listed(provider, options)) == [1]
    assert len(provider.asked) == 2


def test_the_key_shows_nowhere(listed, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    options = COUNTED | {"key_prefix": "Bearer "}
    echo = (403, (), json.dumps({"error": f"key {KEY} has no quota"}).encode())
    entries = listed(Provider(counted(7), [(200, (), counted(7)({"page": 1})), echo]), options)
    assert reasons(entries) == [("listing_failed", "http_403")]
    settings = SearchSettings(source="search", url="https://api.example.org/i", **options)
    source = SearchSource(settings, None, ENVIRONMENT)
    shown = repr(entries) + repr(source) + repr(settings) + settings.model_dump_json() + caplog.text
    assert KEY not in shown + "".join(capfd.readouterr())


def test_a_key_that_is_not_accepted_ends_the_run_in_one_line(listed):
    with pytest.raises(InputError, match=r"^crawl\.key_env: http://127\S* does not accept the key$"):
        listed(Provider(counted(1), [(401, (), b"")]), COUNTED)


def test_a_key_that_is_not_there(listed):
    with pytest.raises(InputError, match=r"^crawl\.key_env: the environment variable it names is not set: MY_KEY$"):
        listed(Provider(counted(1)), COUNTED, environment={})


def test_results_that_are_left_out_say_why(listed):
    odd = [
        {"photo": {}},
        {"photo": {"full": 7}},
        {"photo": None},
        {"photo": {"full": "data:image/png;base64,AA"}},
        hit(1),
        hit(1) | {"link": "http://pages.example/again"},
        hit(2) | {"link": None, "rights": [], "by": ["x"], "credit": 3},
        "no result",
        None,
    ]
    entries = listed(Provider(lambda asked: {"hits": odd if asked["page"] == "1" else []}), COUNTED)
    assert [reason for reason, _ in reasons(entries)] == ["no_url", "no_url", "no_url", "not_http", "duplicate"]
    assert numbers(entries) == [1, 2]
    assert entries[-1] == Target("Ada Lovelace", "http://images.example/2")


@pytest.mark.parametrize("document", [{}, [], {"hits": None}, {"hits": []}, {"other": [1]}, None, 3, "x"])
def test_answers_without_results_are_the_end(listed, document):
    provider = Provider(lambda asked: document)
    assert listed(provider, COUNTED | {"max_pages": 3}) == []
    assert len(provider.asked) == 1


@pytest.mark.parametrize("hits", [{"photo": 1}, "x", 3, True])
def test_results_that_are_no_list_are_said(listed, hits):
    entries = listed(Provider(lambda asked: {"hits": hits}), COUNTED)
    assert reasons(entries) == [("listing_failed", "unexpected_answer")]


def test_only_allowed_licences(listed):
    assert numbers(listed(Provider(counted(2)), COUNTED | {"allowed_licences": ["cc-by"]})) == [0, 1]
    entries = listed(Provider(counted(2)), COUNTED | {"allowed_licences": ["cc0"]})
    assert reasons(entries) == [("licence_not_allowed", "CC BY 4.0")] * 2


@pytest.mark.parametrize(
    "trouble", [(429, [("Retry-After", "6")], b""), (503, (), b""), (200, (), b"<html>")], ids=lambda t: str(t[0])
)
def test_what_passes_is_waited_out(listed, trouble):
    slept = []
    assert numbers(listed(Provider(counted(2), [trouble]), COUNTED, slept)) == [0, 1]
    (waited,) = slept
    assert waited >= 5


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://api.example.org/i"},
        {"url": "https://api.example.org/i?key=1"},
        {"key_env": None},
        {"key_parameter": None},
        {"key_header": "X-Key"},
        {"key_header": "X Key", "key_parameter": None},
        {"results": "hits["},
        {"image_url": ""},
        {"query": "{key}"},
        {"key": "s3cret"},
    ],
)
def test_settings_are_checked(options):
    good = COUNTED | {"url": "https://api.example.org/i"}
    SearchSettings(source="search", **good)
    with pytest.raises(ValidationError):
        SearchSettings(source="search", **good | options)
