"""The commons source against a loopback wiki that pages, lags and fails as the action API documents it."""

import http.client
import json
from datetime import UTC, datetime
from random import Random
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from pydantic import ValidationError

from crawl.fetching.api import Answer, Api, Patience
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.source_config import CommonsSettings
from crawl.sources.commons import CommonsSource
from crawl.sources.listing import Unlisted

ADA = Person("0" * 16, "Ada Lovelace", "test", "text", qid="Q7259")
BOB = Person("1" * 16, "Bob", "test", "text")


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


def file(number, **changes):
    """A page of the file namespace as formatversion=2 gives it."""
    title = f"Ada {number}.jpg"
    info = {
        "size": 200_000,
        "width": 2000,
        "height": 3000,
        "url": f"https://upload.example/a/{number}.jpg",
        "descriptionurl": f"https://wiki.example/wiki/File:Ada_{number}.jpg",
        "descriptionshorturl": f"https://wiki.example/w/index.php?curid={number}",
        "sha1": f"{number:040x}",
        "mime": "image/jpeg",
        "extmetadata": {
            "LicenseShortName": {"value": "CC BY-SA 4.0", "source": "commons-desc-page", "hidden": ""},
            "Artist": {
                "value": '<a href="//wiki.example/wiki/User:P" title="User:P">P. Hoto &amp; <b>Sons</b></a>',
                "source": "commons-desc-page",
            },
        },
    }
    metadata = info["extmetadata"] | changes.pop("metadata", {})
    info |= {"extmetadata": metadata} | changes
    info = {key: value for key, value in info.items() if value is not None}
    return {"pageid": number, "ns": 6, "title": f"File:{title}", "index": number, "imageinfo": [info]}


class Wiki:
    """The action API's `query` over a list of files, `batch` at a time, as many as `gsrlimit` asks for."""

    def __init__(self, files, trouble=(), **odd):
        self.files = files
        self.trouble = list(trouble)
        self.asked = []
        self.odd = odd

    def __call__(self, exchange):
        parameters = {k: v[0] for k, v in parse_qs(urlsplit(exchange.hit.path).query, strict_parsing=True).items()}
        self.asked.append(parameters)
        status, headers, document = self.trouble.pop(0) if self.trouble else (200, (), self.query(parameters))
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
        exchange.finish("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def query(self, parameters):
        prefix = {"search": "gsr", "categorymembers": "gcm"}[parameters["generator"]]
        key = {"gsr": "gsroffset", "gcm": "gcmcontinue"}[prefix]
        start, limit = int(parameters.get(key, "0").partition("|")[0]), int(parameters[f"{prefix}limit"])
        pages = self.files[start : start + limit]
        document = {"batchcomplete": True, "query": {"pages": sorted(pages, key=lambda p: -p["pageid"])}}
        if start + limit < len(self.files):
            token = start + limit if prefix == "gsr" else f"{start + limit}|file"
            document["continue"] = {key: token, "continue": f"{key}||"}
        return document if pages else {"batchcomplete": True}


@pytest.fixture
def listed(hostile_server):
    def find(wiki, person=ADA, slept=None, **options):
        server = hostile_server(routes={"/w/api.php": wiki})
        settings = CommonsSettings(source="commons", url=server.url("/w/api.php"), **options)
        sleep = (slept if slept is not None else []).append
        api = Api(get, sleep, lambda: datetime(2026, 3, 1, tzinfo=UTC), Random(0), Patience(attempts=3))
        return list(CommonsSource(settings, api).find(person))

    return find


def reasons(entries):
    return [(e.where, e.rejection.reason, e.rejection.detail) for e in entries if isinstance(e, Unlisted)]


def numbers(entries):
    return [int(e.image_url.rpartition("/")[2].partition(".")[0]) for e in entries if isinstance(e, Target)]


def test_a_file_with_its_licence_and_author(listed):
    assert listed(Wiki([file(7)])) == [
        Target(
            "Ada Lovelace",
            "https://upload.example/a/7.jpg",
            "https://wiki.example/wiki/File:Ada_7.jpg",
            "CC BY-SA 4.0",
            "P. Hoto & Sons",
            "P. Hoto & Sons, CC BY-SA 4.0, via Wikimedia Commons",
        )
    ]


def test_what_is_asked(listed):
    wiki = Wiki([file(1)])
    listed(wiki)
    (asked,) = wiki.asked
    assert asked == {
        "action": "query",
        "format": "json",
        "formatversion": "2",
        "maxlag": "5",
        "generator": "search",
        "gsrsearch": '"Ada Lovelace" filetype:bitmap',
        "gsrnamespace": "6",
        "gsrlimit": "50",
        "prop": "imageinfo",
        "iiprop": "url|size|mime|extmetadata|sha1",
        "iiextmetadatafilter": "Artist|Attribution|LicenseShortName|License|UsageTerms|NonFree",
        "iiextmetadatalanguage": "en",
    }


def test_a_category(listed):
    wiki = Wiki([{k: v for k, v in file(n).items() if k != "index"} for n in range(1, 6)])
    assert numbers(listed(wiki, find="category", batch=2)) == [1, 2, 3, 4, 5]
    assert wiki.asked[0]["gcmtitle"] == "Category:Ada Lovelace"
    assert wiki.asked[0]["gcmtype"] == "file"
    assert [a.get("gcmcontinue") for a in wiki.asked] == [None, "2|file", "4|file"]
    assert wiki.asked[1]["continue"] == "gcmcontinue||"


def test_pages_are_followed_to_the_end_in_order_of_rank(listed):
    wiki = Wiki([file(n) for n in range(1, 8)])
    assert numbers(listed(wiki, batch=3)) == [1, 2, 3, 4, 5, 6, 7]
    assert [a.get("gsroffset") for a in wiki.asked] == [None, "3", "6"]


def test_rank_goes_before_the_number_of_the_page(listed):
    assert numbers(listed(Wiki([file(1) | {"index": 2}, file(2) | {"index": 1}]))) == [2, 1]


def test_a_batch_may_come_in_parts(listed):
    """imageinfo of some pages comes with a later answer; the pages themselves come with each."""
    bare = [{key: value for key, value in file(n).items() if key != "imageinfo"} for n in (1, 2)]
    more = {"iistart": "2020-01-01T00:00:00Z", "continue": "||"}
    parts = [
        (200, (), {"continue": more, "query": {"pages": [file(1), bare[1]]}}),
        (200, (), {"batchcomplete": True, "query": {"pages": [bare[0], file(2)]}}),
    ]
    wiki = Wiki([], parts)
    assert numbers(listed(wiki)) == [1, 2]
    assert wiki.asked[1]["iistart"] == "2020-01-01T00:00:00Z"


def test_a_person_nobody_photographed(listed):
    assert listed(Wiki([])) == []


def test_no_more_requests_once_the_person_has_enough(listed):
    wiki = Wiki([file(n) for n in range(1, 8)])
    assert numbers(listed(wiki, batch=2, max_photos=3)) == [1, 2, 3]
    assert len(wiki.asked) == 2


def test_files_that_are_left_out_say_why(listed):
    files = [
        file(1, url=None),
        file(2, mime="image/svg+xml"),
        file(3, width=300),
        file(4, metadata={"NonFree": {"value": "true"}}),
        file(5, metadata={"LicenseShortName": {"value": "CC BY-NC 4.0"}}),
        file(6, metadata={"LicenseShortName": {"value": 3}}),
        file(7, url="https://upload.example/a/8.jpg#other"),
        file(8),
        file(9, url="javascript:alert(1)"),
        {"pageid": 10, "index": 10, "title": "File:Gone.jpg", "imagerepository": ""},
        file(11, width=None, height="3"),
    ]
    entries = listed(Wiki(files), min_side_px=512, allowed_licences=["cc-by-sa"])
    wiki = "https://wiki.example/wiki/File:Ada_"
    assert reasons(entries) == [
        (f"{wiki}1.jpg", "no_url", None),
        (f"{wiki}2.jpg", "format", "image/svg+xml"),
        (f"{wiki}3.jpg", "too_small", None),
        (f"{wiki}4.jpg", "non_free", None),
        (f"{wiki}5.jpg", "licence_not_allowed", "CC BY-NC 4.0"),
        (f"{wiki}6.jpg", "licence_not_allowed", "unknown"),
        (f"{wiki}8.jpg", "duplicate", None),
        (f"{wiki}9.jpg", "not_http", None),
        ("File:Gone.jpg", "no_url", None),
    ]
    assert numbers(entries) == [8, 11]
    small = next(e for e in entries if isinstance(e, Unlisted) and e.rejection.reason == "too_small")
    assert (small.rejection.value, small.rejection.threshold) == (300, 512)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"LicenseShortName": None, "License": {"value": "cc0"}}, ("cc0", "P. Hoto & Sons")),
        ({"LicenseShortName": {"value": ""}, "UsageTerms": {"value": "Any use"}}, ("Any use", "P. Hoto & Sons")),
        ({"LicenseShortName": None}, (None, "P. Hoto & Sons")),
        ({"Artist": {"value": "<script>alert(1)</script>Ann"}}, ("CC BY-SA 4.0", "alert(1) Ann")),
        ({"Artist": {"value": "&lt;Ann&gt;"}}, ("CC BY-SA 4.0", "<Ann>")),
        ({"Artist": {"value": "<" * 50_000}}, ("CC BY-SA 4.0", "<" * 2000)),
        ({"Artist": {"value": "<p></p>"}}, ("CC BY-SA 4.0", None)),
        ({"Artist": {"value": {"en": "Ann"}}}, ("CC BY-SA 4.0", None)),
    ],
)
def test_licence_and_author_from_what_there_is(listed, metadata, expected):
    (target,) = listed(Wiki([file(1, metadata=metadata)]))
    assert (target.licence, target.author) == expected


def test_the_authors_own_attribution_wins(listed):
    (target,) = listed(Wiki([file(1, metadata={"Attribution": {"value": "Photo: <i>Ann</i>"}})]))
    assert target.attribution == "Photo: Ann"


def test_depicts_asks_for_the_qid(listed):
    wiki = Wiki([file(1)])
    query = "haswbstatement:P180={qid} filetype:bitmap"
    assert numbers(listed(wiki, query=query)) == [1]
    assert wiki.asked[0]["gsrsearch"] == "haswbstatement:P180=Q7259 filetype:bitmap"
    assert reasons(listed(wiki, BOB, query=query)) == [(query, "no_qid", None)]
    assert len(wiki.asked) == 1


def test_a_name_cannot_leave_its_quotation_marks(listed):
    wiki = Wiki([])
    listed(wiki, Person("2" * 16, 'Ada "Countess" Lovelace', "test", "text"))
    assert wiki.asked[0]["gsrsearch"] == '"Ada Countess Lovelace" filetype:bitmap'


def error(code, **more):
    return {"error": {"code": code, "info": "Waiting for 10.64.0.1: 7.3 seconds lagged.", **more}}


@pytest.mark.parametrize(
    "trouble",
    [
        (200, [("Retry-After", "5"), ("X-Database-Lag", "7")], error("maxlag", host="10.64.0.1", lag=7.3)),
        (503, [("Retry-After", "5")], error("maxlag")),
        (200, (), error("ratelimited")),
        (200, (), error("readonly")),
        (200, (), error("internal_api_error_DBQueryError")),
        (429, [("Retry-After", "9")], b"Too Many Requests"),
        (502, (), b"<html>bad gateway</html>"),
        (200, (), b'{"query": {"pages": ['),
    ],
    ids=lambda t: f"{t[0]} {t[2]!r:.60}",
)
def test_what_passes_is_waited_out(listed, trouble):
    slept = []
    assert numbers(listed(Wiki([file(1)], [trouble]), slept=slept)) == [1]
    (waited,) = slept
    assert waited >= 5


@pytest.mark.parametrize(
    ("trouble", "detail", "retry"),
    [
        ((200, (), error("maxlag")), "busy", True),
        ((200, (), error("badvalue")), "api_error: badvalue", False),
        ((200, (), error("<script>")), "api_error: script", False),
        ((200, (), {"error": {}}), "api_error: unknown", False),
        ((403, (), b"set a user agent"), "http_403", False),
        ((404, (), b"no wiki"), "http_404", False),
        ((200, (), []), "unexpected_answer", True),
        ((429, [("Retry-After", "86400")], b""), "http_429", True),
    ],
    ids=lambda t: repr(t)[:60],
)
def test_a_wiki_that_stops_answering_loses_nothing_it_listed(listed, trouble, detail, retry):
    first = Wiki([file(1), file(2)])
    good = (200, (), first.query({"generator": "search", "gsrlimit": "1"}))
    entries = listed(Wiki([], [good, *[trouble] * 9]))
    assert numbers(entries) == [1]
    assert [(e.rejection.reason, e.rejection.detail, e.retry) for e in entries if isinstance(e, Unlisted)] == [
        ("listing_failed", detail, retry)
    ]


def test_a_connection_that_breaks_is_a_failed_listing(hostile_server, answers):
    server = hostile_server(routes={"/w/api.php": answers.reset()})
    settings = CommonsSettings(source="commons", url=server.url("/w/api.php"))
    api = Api(get, lambda s: None, lambda: datetime.now(UTC), Random(0), Patience(attempts=2))
    (failed,) = CommonsSource(settings, api).find(ADA)
    assert (failed.where, failed.rejection.detail, failed.retry) == (server.url("/w/api.php"), "connection", True)
    assert len(server.hits) == 2


def test_continuing_without_end_ends(listed):
    same = {"continue": {"gsroffset": 1, "continue": "gsroffset||"}, "batchcomplete": True, "query": {"pages": []}}
    assert reasons(listed(Wiki([], [(200, (), same)] * 9)))[0][2] == "unexpected_answer"
    wiki = Wiki([file(n) for n in range(1, 100)])
    entries = listed(wiki, batch=2, max_requests=3)
    assert numbers(entries) == [1, 2, 3, 4, 5, 6]
    assert [(e.rejection.detail, e.retry) for e in entries if isinstance(e, Unlisted)] == [("max_requests", False)]
    assert len(wiki.asked) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"query": "no placeholder"},
        {"query": "{person}"},
        {"category": ""},
        {"url": "ftp://wiki.example/w/api.php"},
        {"url": "https://wiki.example/w/api.php?action=delete"},
        {"url": "https://user:secret@wiki.example/w/api.php"},
        {"batch": 501},
        {"robots": False},
    ],
)
def test_settings_are_checked(options):
    with pytest.raises(ValidationError):
        CommonsSettings(source="commons", **options)
