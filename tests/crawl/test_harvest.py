"""From a list of people or URLs to rows in identity buckets, over a real loopback network."""

import csv
import dataclasses
import io
import json
from datetime import UTC, datetime
from random import Random

import numpy as np
import pytest
from PIL import Image

from crawl.collect import CrawlStage
from crawl.config import CrawlRun
from crawl.errors import InputError
from crawl.fetching.api import Api
from crawl.harvest import HostWork, fetch_settings, harvest, network_api
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo, identity_key
from crawl.status import hosts_status, print_status
from crawl.tables import Tables

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def jpeg(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def nobody(*arguments):
    raise AssertionError("no API is to be asked")


class Crawl:
    """A run file's crawl, and what it left."""

    def __init__(self, folder, crawl):
        crawl = {"contact": "https://example.org/crawl", "interval_s": 0, **crawl}
        self.run = CrawlRun.model_validate({"output": str(folder), "crawl": crawl, "shards": {"buckets": 3}})
        self.output = Output(self.run.output)

    def __call__(self, api=None, environment=None, now=NOW):
        settings = dataclasses.replace(fetch_settings(self.run.crawl), backoff_s=0.01)
        api = api or Api(nobody, nobody, nobody, Random(0))
        work = HostWork(self.run, settings, now)

        def ask(hosts):
            for host in hosts:
                work(host, lambda s, n: None)

        harvest(self.run, self.output, api, ask, now, environment or {})
        stage, tables = CrawlStage(self.run, self.output), Tables(self.output)
        for bucket in range(3):
            stage.run(bucket, stage.fingerprint(bucket), lambda s, n: None)
        self.people = {e.row.name: e.row for b in range(3) for e in tables.read("people", b, Person)}
        entries = [e for b in range(3) for e in tables.read("crawl", b, Photo)]
        return {(e.row.identity, e.row.source): e for e in entries}


@pytest.fixture
def site(hostile_server, answers):
    """`own_hosts` names it: a loopback address that the guard would refuse."""
    return hostile_server(
        routes={
            "/robots.txt": answers.text("User-agent: *\nDisallow: /private/\n"),
            "/1.jpg": answers.ok(jpeg(1)),
            "/2.jpg": answers.tagged(jpeg(2), etag='"two"'),
            "/private/3.jpg": answers.ok(jpeg(3)),
            "/noai.jpg": answers.ok(jpeg(4), headers=[("X-Robots-Tag", "noai")]),
            "/busy.jpg": answers.in_turn(*[answers.status(503)] * 3, answers.ok(jpeg(5))),
        }
    )


@pytest.fixture
def urls(tmp_path, site):
    path = tmp_path / "urls.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "image_url", "page_url", "licence", "author"])
        for name in ("1.jpg", "2.jpg", "private/3.jpg", "noai.jpg", "gone.jpg"):
            writer.writerow(["Ada", site.url("/" + name), site.url("/ada.html"), "CC-BY-4.0", "Someone"])
        writer.writerow(["Bob", site.url("/1.jpg"), "", "", ""])
        writer.writerow(["", site.url("/1.jpg"), "", "", ""])
    return path


@pytest.fixture
def crawl(tmp_path, site, urls):
    source = {"source": "urls", "path": str(urls), "basis": "test"}
    return Crawl(tmp_path / "out", {"sources": [source], "own_hosts": [site.host]})


def test_every_url_has_a_row_with_its_provenance_or_its_reason(crawl, site):
    rows = {(source.rsplit("/", 1)[1], identity): e for (identity, source), e in crawl().items()}
    ada, bob = identity_key("Ada"), identity_key("Bob")
    assert {key: e.rejection and e.rejection.reason for key, e in rows.items()} == {
        ("1.jpg", ada): None,
        ("2.jpg", ada): None,
        ("3.jpg", ada): "robots_disallowed",
        ("noai.jpg", ada): "opted_out",
        ("gone.jpg", ada): "http_status",
        ("1.jpg", bob): None,
    }
    photo = rows["2.jpg", ada].row
    assert (photo.licence, photo.author, photo.page_url) == ("CC-BY-4.0", "Someone", site.url("/ada.html"))
    assert (photo.http_status, photo.etag, photo.content_type) == (200, '"two"', "image/jpeg")
    assert "https://example.org/crawl" in photo.user_agent
    assert rows["noai.jpg", ada].row.signals == ("x-robots-tag: noai",)
    assert {p: person.basis for p, person in crawl.people.items()} == {"Ada": "test", "Bob": "test"}
    assert site.hits_of("/private/3.jpg") == []
    assert len(site.hits_of("/1.jpg")) == 1, "one address is asked once, whoever it shows"


def test_a_second_run_asks_for_nothing_that_is_known(crawl, site):
    first = crawl()
    asked = len(site.hits)
    assert crawl() == first
    assert len(site.hits) == asked


def test_what_failed_and_may_pass_is_tried_again(tmp_path, site, urls):
    urls.write_text(f"name,url\nAda,{site.url('/busy.jpg')}\n")
    crawl = Crawl(tmp_path / "out", {"source": "urls", "path": str(urls), "own_hosts": [site.host]})
    (before,) = crawl().values()
    (after,) = crawl().values()
    assert (before.rejection.reason, before.rejection.value) == ("http_status", 503)
    assert after.rejection is None


def test_a_reserved_copy_takes_the_photo_out_wherever_else_it_was_found(tmp_path, site, answers, urls):
    """Its bytes came before the site's tdmrep.json did; a copy in a folder of the same person is out too."""
    reserved = '[{"location": "/reserved/*", "tdm-reservation": 1}]'
    site.route("/.well-known/tdmrep.json", answers.json(reserved))
    site.route("/reserved/1.jpg", answers.ok(jpeg(1)))
    names = {"reserved/1.jpg": "Ada", "1.jpg": "Bob", "2.jpg": "Bob"}
    urls.write_text("name,url\n" + "".join(f"{name},{site.url('/' + path)}\n" for path, name in names.items()))
    for name in ("Ada", "Eve"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "copy.jpg").write_bytes(jpeg(1))
    sources = [{"source": "urls", "path": str(urls)}, {"source": "folder", "root": str(tmp_path / "photos")}]
    rows = Crawl(tmp_path / "out", {"sources": sources, "own_hosts": [site.host]})()
    told = {(i, source.rpartition("/")[2]): e.rejection and e.rejection.detail for (i, source), e in rows.items()}
    ada, bob, eve = map(identity_key, ("Ada", "Bob", "Eve"))
    there = f"tdmrep.json at {site.url('/reserved/1.jpg')}"
    assert told == {
        (ada, "1.jpg"): "tdmrep.json",
        (ada, "copy.jpg"): there,
        (bob, "1.jpg"): there,
        (bob, "2.jpg"): None,
        (eve, "copy.jpg"): None,
    }


def test_a_photo_that_opts_out_later_takes_its_copies_along(tmp_path, site, answers, urls):
    later = answers.ok(jpeg(1), headers=[("X-Robots-Tag", "noai")])
    site.route("/other.jpg", answers.in_turn(answers.ok(jpeg(1)), later))
    urls.write_text(f"name,url\nAda,{site.url('/other.jpg')}\nAda,{site.url('/1.jpg')}\n")
    source = {"source": "urls", "path": str(urls), "own_hosts": [site.host]}
    assert [e.rejection for e in Crawl(tmp_path / "out", source)().values()] == [None, None]
    again = Crawl(tmp_path / "out", source | {"refresh_days": 1e-9})
    assert {e.rejection.detail for e in again(now=datetime(2100, 1, 1, tzinfo=UTC)).values()} == {
        "x-robots-tag: noai",
        f"x-robots-tag: noai at {site.url('/other.jpg')}",
    }


def test_a_private_address_is_not_asked(tmp_path, site, urls):
    crawl = Crawl(tmp_path / "out", {"source": "urls", "path": str(urls)})
    assert {e.rejection.reason for e in crawl().values()} == {"not_public"}
    assert site.hits == []


def test_a_list_of_people_is_looked_up_in_an_api(tmp_path, site, hostile_server, answers):
    results = {"value": [{"img": site.url("/1.jpg"), "page": site.url("/p")}, {"img": site.url("/2.jpg")}]}
    api_server = hostile_server(routes={"/search": answers.json(json.dumps(results))})
    (tmp_path / "people.txt").write_text("# who\nAda\n")
    source = {
        "source": "search",
        "url": api_server.url("/search"),
        "results": "value",
        "image_url": "img",
        "page_url": "page",
    }
    people = {"list": "text", "path": str(tmp_path / "people.txt")}
    own = [site.host, api_server.host]
    crawl = Crawl(tmp_path / "out", {"sources": [source], "people": people, "own_hosts": own})
    with network_api(crawl.run.crawl) as api:
        rows = crawl(api)
    assert {source.rsplit("/", 1)[1] for _, source in rows} == {"1.jpg", "2.jpg"}
    assert all(e.rejection is None for e in rows.values())
    asked = len(api_server.hits)
    assert asked >= 1
    assert crawl() == rows, "what an API listed is not asked for again"
    assert len(api_server.hits) == asked


def test_a_source_that_needs_people_says_so(tmp_path):
    crawl = Crawl(tmp_path / "out", {"source": "commons"})
    with pytest.raises(InputError, match=r"crawl\.people: source commons needs a list of people"):
        crawl()


def test_a_crawler_says_who_it_is():
    with pytest.raises(ValueError, match=r"crawl\.contact"):
        CrawlRun.model_validate({"output": "o", "crawl": {"source": "urls", "path": "x.csv"}})


def test_status_tells_what_was_stored_refused_and_is_left(crawl, site, capsys):
    with pytest.raises(InputError, match="nothing was crawled from the network here"):
        hosts_status(crawl.output)
    crawl()
    (status,) = hosts_status(crawl.output)
    assert status.host == "127.0.0.1"
    assert status.outcomes == {"stored": 3, "robots_disallowed": 1, "opted_out": 1, "http_status": 1}
    assert (status.wanted, status.waiting, status.retried) == (6, 0, 0)
    print_status(crawl.output)
    told = capsys.readouterr().out
    assert "1 opted_out" in told
    assert "not listed: 1 no_name" in told
