"""The openverse source against a loopback API that pages, limits and throttles as the real one documents it."""

import http.client
import json
from datetime import UTC, datetime
from random import Random
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from pydantic import ValidationError

from crawl.errors import InputError
from crawl.fetching.api import Answer, Api, Patience
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.source_config import OpenverseSettings
from crawl.sources.listing import Unlisted
from crawl.sources.openverse import OpenverseSource

ADA = Person("0" * 16, "Ada Lovelace", "test", "text")
TOKEN = "t0ken"


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


def image(number, **changes):
    return {
        "id": f"00000000-0000-0000-0000-{number:012}",
        "title": "Ada",
        "foreign_landing_url": f"https://photos.example/{number}",
        "url": f"https://live.photos.example/{number}.jpg",
        "creator": "P. Hoto",
        "creator_url": "https://photos.example/people/p",
        "license": "by-sa",
        "license_version": "2.0",
        "license_url": "https://creativecommons.org/licenses/by-sa/2.0/",
        "provider": "photos",
        "source": "photos",
        "category": "photograph",
        "attribution": '"Ada" by P. Hoto is licensed under CC BY-SA 2.0.',
        "height": 3000,
        "width": 2000,
        "mature": False,
    } | changes


class Openverse:
    """`GET /v1/images/`: at most 20 a page and 240 deep without a token; `trouble` comes first."""

    def __init__(self, images, trouble=(), depth=240, page_count=True):
        self.images = images
        self.trouble = list(trouble)
        self.depth = depth
        self.page_count = page_count
        self.asked = []

    def __call__(self, exchange):
        asked = {k: v[0] for k, v in parse_qs(urlsplit(exchange.hit.path).query, strict_parsing=True).items()}
        self.asked.append(asked)
        status, headers, document = self.trouble.pop(0) if self.trouble else self.answer(asked, exchange.hit)
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
        exchange.finish("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def answer(self, asked, hit):
        page, size = int(asked["page"]), int(asked["page_size"])
        token = hit.header("authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            return 401, (), {"detail": "Authentication credentials were not provided."}
        if page * size > self.depth or (token is None and size > 20):
            return (400 if token else 401), (), {"detail": {"page": ["Ensure this value is less than this."]}}
        chosen = self.images
        if "license" in asked:
            chosen = [i for i in chosen if i["license"] in asked["license"].split(",")]
        document = {
            "result_count": len(chosen),
            "page_count": min(-(-len(chosen) // size), 20),
            "page_size": size,
            "page": page,
            "results": chosen[(page - 1) * size : page * size],
        }
        return 200, (), document if self.page_count else document | {"page_count": None}


@pytest.fixture
def listed(hostile_server):
    def find(openverse, person=ADA, slept=None, environment=None, **options):
        server = hostile_server(routes={"/v1/images/": openverse})
        settings = OpenverseSettings(source="openverse", url=server.url("/v1/images/"), **options)
        sleep = (slept if slept is not None else []).append
        api = Api(get, sleep, lambda: datetime(2026, 3, 1, tzinfo=UTC), Random(0), Patience(attempts=3))
        return list(OpenverseSource(settings, api, environment or {}).find(person))

    return find


def reasons(entries):
    return [(e.where, e.rejection.reason, e.rejection.detail) for e in entries if isinstance(e, Unlisted)]


def numbers(entries):
    return [int(e.image_url.rpartition("/")[2].partition(".")[0]) for e in entries if isinstance(e, Target)]


def test_an_image_with_its_licence_and_attribution(listed):
    openverse = Openverse([image(7)])
    assert listed(openverse) == [
        Target(
            "Ada Lovelace",
            "https://live.photos.example/7.jpg",
            "https://photos.example/7",
            "CC BY-SA 2.0",
            "P. Hoto",
            '"Ada" by P. Hoto is licensed under CC BY-SA 2.0.',
        )
    ]
    assert openverse.asked == [{"q": '"Ada Lovelace"', "page": "1", "page_size": "20"}]


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (20, 1), (21, 2), (60, 3)])
@pytest.mark.parametrize("page_count", [True, False])
def test_every_page_is_asked_for(listed, count, requests, page_count):
    openverse = Openverse([image(n) for n in range(count)], page_count=page_count)
    assert numbers(listed(openverse)) == list(range(count))
    assert len(openverse.asked) == requests + (0 if page_count or not count else 1)


def test_no_more_requests_once_the_person_has_enough(listed):
    openverse = Openverse([image(n) for n in range(100)])
    assert numbers(listed(openverse, max_photos=25)) == list(range(25))
    assert len(openverse.asked) == 2


def test_one_query_goes_so_deep_and_says_so(listed):
    openverse = Openverse([image(n) for n in range(300)])
    entries = listed(openverse, max_photos=None)
    assert numbers(entries) == list(range(240))
    assert reasons(entries)[0][1] == "page_depth"
    assert entries[-1].rejection.threshold == 12
    assert len(openverse.asked) == 12


@pytest.mark.parametrize("token", [None, "TOKEN"])
def test_an_api_that_is_shallower_than_expected_loses_nothing(listed, token):
    openverse = Openverse([image(n) for n in range(300)], depth=60)
    entries = listed(openverse, environment={"TOKEN": TOKEN}, token_env=token)
    assert numbers(entries) == list(range(60))
    assert [(e.rejection.reason, e.rejection.threshold, e.retry) for e in entries if isinstance(e, Unlisted)] == [
        ("page_depth", 3, False)
    ]


def test_a_token_comes_from_the_environment_and_goes_into_the_header(listed):
    openverse = Openverse([image(n) for n in range(60)])
    entries = listed(openverse, environment={"MY_TOKEN": TOKEN}, token_env="MY_TOKEN", page_size=50)
    assert numbers(entries) == list(range(60))
    assert len(openverse.asked) == 2
    assert TOKEN not in repr(openverse.asked) + repr(entries)


def test_a_token_that_is_not_accepted_ends_the_run_in_one_line(listed):
    with pytest.raises(InputError, match=r"^crawl\.token_env: http://127.* does not accept the token$") as error:
        listed(Openverse([image(1)]), environment={"MY_TOKEN": "s3cret"}, token_env="MY_TOKEN")
    assert "s3cret" not in str(error.value)


def test_a_token_that_is_not_there(listed):
    with pytest.raises(InputError, match=r"^crawl\.token_env: the environment variable it names is not set: MY_TOKEN$"):
        listed(Openverse([]), token_env="MY_TOKEN")


@pytest.mark.parametrize(
    ("code", "version", "licence"),
    [
        ("by", "4.0", "CC BY 4.0"),
        ("by-nc-nd", "2.0", "CC BY-NC-ND 2.0"),
        ("cc0", "1.0", "CC0 1.0"),
        ("pdm", "1.0", "PDM 1.0"),
        ("sampling+", "1.0", "CC SAMPLING+ 1.0"),
        ("by", None, "CC BY"),
        ("cc0", "", "CC0"),
        (None, "4.0", None),
    ],
)
def test_licences(listed, code, version, licence):
    (target,) = listed(Openverse([image(1, license=code, license_version=version)]))
    assert target.licence == licence


def test_allowed_licences_are_asked_for_and_sifted(listed):
    codes = ["by", "by-sa", "by-nc", "cc0", "pdm"]
    openverse = Openverse([image(n, license=code) for n, code in enumerate(codes)])
    entries = listed(openverse, allowed_licences=["cc0", "pdm", "CC BY"])
    assert openverse.asked[0]["license"] == "by,cc0,pdm"
    assert numbers(entries) == [0, 3, 4]
    versions = Openverse([image(1, license_version="2.0"), image(2, license_version="4.0")])
    entries = listed(versions, allowed_licences=["cc-by-sa-4.0"])
    assert versions.asked[0]["license"] == "by-sa"
    assert numbers(entries) == [2]
    assert reasons(entries) == [("https://photos.example/1", "licence_not_allowed", "CC BY-SA 2.0")]


def test_images_that_are_left_out_say_why(listed):
    images = [
        image(1, url=None),
        image(2, url="", foreign_landing_url=None),
        image(3, width=300),
        image(4),
        image(5, url="https://live.photos.example/4.jpg"),
        image(6, url="ftp://photos.example/6.jpg"),
        image(7, width=None, height=None),
    ]
    entries = listed(Openverse([*images, None, "odd"]), min_side_px=512)
    assert reasons(entries) == [
        ("https://photos.example/1", "no_url", None),
        ("00000000-0000-0000-0000-000000000002", "no_url", None),
        ("https://photos.example/3", "too_small", None),
        ("https://photos.example/5", "duplicate", None),
        ("https://photos.example/6", "not_http", None),
    ]
    assert numbers(entries) == [4, 7]


def test_further_parameters_and_long_names(listed):
    openverse = Openverse([])
    listed(openverse, Person("0" * 16, "A" * 300, "test", "text"), parameters={"source": "flickr", "page": "9"})
    assert openverse.asked == [{"source": "flickr", "q": '"' + "A" * 199, "page": "1", "page_size": "20"}]


def test_a_query_by_qid_needs_one(listed):
    openverse = Openverse([])
    assert reasons(listed(openverse, query="{qid}")) == [("{qid}", "no_qid", None)]
    assert openverse.asked == []


def throttled(seconds):
    detail = {"detail": f"Request was throttled. Expected available in {seconds} seconds."}
    headers = [("Retry-After", seconds), ("X-RateLimit-Limit-anon_burst", "20/min")]
    return 429, headers, detail


@pytest.mark.parametrize("trouble", [throttled(17), (503, (), b"<html>"), (500, (), b""), (200, (), b"{")])
def test_what_passes_is_waited_out(listed, trouble):
    slept = []
    good = [image(n) for n in range(30)]
    assert numbers(listed(Openverse(good, [trouble]), slept=slept)) == list(range(30))
    (waited,) = slept
    assert waited >= (17 if trouble[0] == 429 else 5)


@pytest.mark.parametrize(
    ("trouble", "detail", "retry"),
    [
        (throttled(80_000), "http_429", True),
        ((503, (), b""), "http_503", True),
        ((200, (), {"detail": "no results here"}), "unexpected_answer", True),
        ((200, (), []), "unexpected_answer", True),
    ],
    ids=lambda t: repr(t)[:40],
)
def test_an_api_that_stops_answering_loses_nothing_it_listed(listed, trouble, detail, retry):
    openverse = Openverse([image(n) for n in range(30)])
    good = openverse.answer({"page": "1", "page_size": "20"}, type("Hit", (), {"header": lambda self, name: None})())
    entries = listed(Openverse([], [good, *[trouble] * 9]))
    assert numbers(entries) == list(range(20))
    assert [(e.rejection.reason, e.rejection.detail, e.retry) for e in entries if isinstance(e, Unlisted)] == [
        ("listing_failed", detail, retry)
    ]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_first_page_that_is_refused_is_a_failed_listing(listed, status):
    (failed,) = listed(Openverse([], [(status, (), {"detail": {"q": ["bad"]}})]))
    assert (failed.rejection.reason, failed.rejection.detail, failed.retry) == (
        "listing_failed", f"http_{status}", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": 50},
        {"token_env": "T", "url": "http://api.example.org/v1/images/"},
        {"token_env": "T", "page_size": 241},
        {"query": "Ada"},
        {"max_photos": 0},
    ],
)
def test_settings_are_checked(options):
    with pytest.raises(ValidationError):
        OpenverseSettings(source="openverse", **options)
