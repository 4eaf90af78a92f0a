"""Pages and spiders through the gate, for real."""

import dataclasses
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
import scrapy

from crawl.fetching import process
from crawl.fetching.api import Api, NoAnswer, Patience
from crawl.fetching.process import ChildFailed
from crawl.fetching.session import Item, RefusedPage, Session, run_spider
from crawl.fetching.target import Target
from crawl.policy.politeness import FetchSettings

HOST = "127.0.0.1"
FAST = FetchSettings(interval_s=0.05, timeout_s=1, backoff_s=0.01, allowed_networks=("127.0.0.1/32",))


def test_pages_are_asked_for_one_by_one_with_parameters_and_the_callers_headers(hostile_server, answers):
    server = hostile_server(
        routes={"/api": answers.json('{"n": 1}'), "/robots.txt": answers.text("User-agent: *\nDisallow: /no")}
    )
    server.route("/gzip", answers.gzipped(b"[1, 2]" * 9999))
    server.route("/away", answers.redirect("/api"))
    with Session(FAST, [HOST]) as session:
        first = session.get(server.url("/api"), {"q": "Zoë & co", "page": "2"}, {"X-Key": "secret"})
        assert (first.status, first.body, first.headers["content-type"]) == (200, b'{"n": 1}', "application/json")
        assert session.get(server.url("/gzip"), {}, {}).body == b"[1, 2]" * 9999
        assert session.get(server.url("/missing"), {}, {}).status == 404
        assert session.get(server.url("/away"), {}, {"X-Key": "secret"}).body == b'{"n": 1}'
        with pytest.raises(NoAnswer) as raised:
            session.get(server.url("/no"), {}, {})
        assert (raised.value.reason, raised.value.retry) == ("robots_disallowed", False)
        with pytest.raises(NoAnswer, match="moved"):
            session.get("http://b.test/", {}, {})
        with pytest.raises(NoAnswer, match="bad_url"):
            session.get("file:///etc/hostname", {}, {})
    assert server.paths() == ["/robots.txt", "/api?q=Zo%C3%AB+%26+co&page=2", "/gzip", "/missing", "/away", "/api"]
    assert server.hits[1].header("x-key") == "secret"
    assert server.hits[-1].header("x-key") is None
    assert min(server.gaps_s()) >= 0.05
    assert server.max_concurrency() == 1


def test_a_documented_api_is_asked_in_spite_of_robots_txt_and_patience_is_the_callers(hostile_server, answers):
    server = hostile_server(routes={"/robots.txt": answers.text("User-agent: *\nDisallow: /")})
    busy = answers.status(429, [("Retry-After", "1")])
    server.route("/api", answers.in_turn(busy, answers.hang_up(), answers.hang_up(), answers.json("[7]")))
    with Session(FAST, [HOST], obey_robots=False) as session:
        slept = []
        now = lambda: datetime.now(UTC)  # noqa: E731
        api = Api(session.get, slept.append, now, random.Random(0), Patience(backoff_s=0.01))
        assert api.json(server.url("/api"), {}) == [7]
        with pytest.raises(OSError, match="timeout"):
            session.get(server.route("/silent", answers.silent()), {}, {})
    assert server.paths() == ["/api"] * 4 + ["/silent"]
    assert slept[0] >= 1.0
    assert server.hits[1].started_s - server.hits[0].started_s >= 1.0, "the gate waits too"


def test_a_host_rests_between_one_process_and_the_next(hostile_server, answers):
    server = hostile_server(routes={"/api": answers.json("1")})
    settings = dataclasses.replace(FAST, interval_s=1.0)
    for _ in range(2):
        with Session(settings, [HOST], obey_robots=False) as session:
            session.get(server.url("/api"), {}, {})
    assert min(server.gaps_s()) >= 1.0


class Gallery(scrapy.Spider):
    """Two levels of pages and the photos on them."""

    name = "gallery"

    def __init__(self, start, fail=False):
        super().__init__()
        self._start = start
        self._fail = fail

    async def start(self):
        yield scrapy.Request(self._start)

    def parse(self, response):
        for link in response.css("a::attr(href)").getall():
            yield response.follow(link, self.parse_person)

    def parse_person(self, response):
        if self._fail and response.url.endswith("2"):
            raise RuntimeError("no such element")
        for source in response.css("img::attr(src)").getall():
            yield Target(response.url.rsplit("/")[-1], response.urljoin(source), response.url)
        yield {"page": response.url}


@pytest.fixture(autouse=True)
def _spiders_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def gallery(hostile_server, answers):
    server = hostile_server(routes={"/robots.txt": answers.text("User-agent: *\nDisallow: /p/9")})
    links = "".join(f'<a href="/p/{n}">{n}</a>' for n in (1, 2, 3, 9))
    server.route("/", answers.html(links))
    for n in (1, 2, 3):
        server.route(f"/p/{n}", answers.html(f'<img src="/{n}/a.jpg"><img src="/{n}/b.jpg">'))
    server.route("/p/3", answers.redirect("http://b.test/"))
    return server


def test_a_spider_yields_through_the_gate(gallery):
    yielded = list(run_spider("test_session:Gallery", {"start": gallery.url("/")}, [HOST], FAST))
    targets = [Target(**item.fields) for item in yielded if isinstance(item, Item) and item.type == "Target"]
    assert sorted(t.image_url for t in targets) == [gallery.url(f"/{n}/{x}.jpg") for n in (1, 2) for x in "ab"]
    assert {item.fields["page"] for item in yielded if isinstance(item, Item) and item.type == "dict"} == {
        gallery.url("/p/1"),
        gallery.url("/p/2"),
    }
    refused = {page.url: page.rejection.reason for page in yielded if isinstance(page, RefusedPage)}
    assert refused == {gallery.url("/p/9"): "robots_disallowed", "http://b.test/": "moved"}
    assert min(gallery.gaps_s()) >= 0.05
    assert gallery.max_concurrency() == 1
    assert {hit.header("referer") for hit in gallery.hits} == {None}


class Pages(scrapy.Spider):
    """Each page leads to the next: never more than one request at the gate."""

    name = "pages"

    def __init__(self, start):
        super().__init__()
        self._start = start

    async def start(self):
        yield scrapy.Request(self._start)

    def parse(self, response):
        yield {"page": response.url}
        for link in response.css("a::attr(href)").getall():
            yield response.follow(link)


def test_a_spider_that_waits_at_the_gate_is_not_taken_for_one_that_is_done(hostile_server, answers):
    server = hostile_server()
    for n in range(6):
        server.route(f"/{n}", answers.html(f'<a href="/{n + 1}">more</a>' if n < 5 else ""))
    settings = dataclasses.replace(FAST, interval_s=0.2)
    yielded = list(run_spider("test_session:Pages", {"start": server.url("/0")}, [HOST], settings))
    assert [item.fields["page"] for item in yielded] == [server.url(f"/{n}") for n in range(6)]


def test_a_page_that_a_spider_cannot_read_is_counted_and_the_others_go_on(gallery):
    settings = dataclasses.replace(FAST, interval_s=0)
    yielded = list(run_spider("test_session:Gallery", {"start": gallery.url("/"), "fail": True}, [HOST], settings))
    refused = {page.url: page.rejection for page in yielded if isinstance(page, RefusedPage)}
    assert refused[gallery.url("/p/2")].detail == "RuntimeError: no such element"
    assert len([item for item in yielded if isinstance(item, Item)]) == 3


def test_the_child_finds_this_code_wherever_it_is_started():
    assert (Path(process._ROOT) / "crawl" / "fetching" / "child.py").is_file()


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ChildFailed, match="No module named 'no_such_module'"):
        list(run_spider("no_such_module:Spider", {}, [HOST], FAST))
