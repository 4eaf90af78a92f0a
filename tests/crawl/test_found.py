"""Fetched rows sorted into buckets: nothing that a source told is lost, and what opted out takes its copies along."""

import dataclasses

import pytest

from crawl.fetching.target import Fetched, Target
from crawl.found import NetworkPhotos, sort_into_buckets
from crawl.optout import opted_out_bytes, withdrawn
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo, Rejection, bucket_of, identity_key
from crawl.policy.refusals import refusal
from crawl.spill import Spill
from crawl.store import Store
from crawl.tables import Entry

BUCKETS = 3
DAY = "2024-05-01T00:00:00+00:00"


def row(name, url, sha256="", rejection=None, signals=(), **told):
    content = (sha256, 9, "jpg", 0, "image/jpeg", None, None)
    return Fetched(Target(name, url, **told), url, 200, DAY, *content, signals, "P", rejection, False)


@pytest.fixture
def sort(tmp_path):
    """Sort rows; returns entries by bucket."""

    def run(*rows):
        output = Output(str(tmp_path / "out"))
        names = {r.target.name for r in rows}
        sort_into_buckets(output, BUCKETS, rows, [Person(identity_key(n), n, "test", "urls") for n in names])
        found = NetworkPhotos(output)
        return [list(found.entries(b, Store(output), {})) for b in range(BUCKETS)]

    return run


def test_each_photo_is_in_its_persons_bucket_and_order_does_not_matter(sort):
    rows = [row(name, f"http://{name}.test/{n}.jpg", f"{name}{n}") for name in ("Ada", "Bob", "Zoé") for n in range(4)]
    buckets = sort(*rows)
    assert sum(map(len, buckets)) == len(rows)
    for bucket, entries in enumerate(buckets):
        assert {bucket_of(e.row.identity, BUCKETS) for e in entries} <= {bucket}
    assert sort(*reversed(rows)) == buckets


def test_what_two_sources_say_of_one_address_are_two_photos(sort):
    url = "http://a.test/1.jpg"
    told = [{"page_url": "http://a.test/p", "licence": "CC BY 4.0"}, {"page_url": "http://b.test/q", "licence": "CC0"}]
    entries = [e for bucket in sort(*(row("Ada", url, "s", **t) for t in told)) for e in bucket]
    assert [(e.row.page_url, e.row.licence) for e in entries] == [tuple(t.values()) for t in told]
    assert len({e.key for e in entries}) == 2
    assert {e.row.source for e in entries} == {url}
    (alone,) = [e for bucket in sort(row("Ada", url, "s", **told[1])) for e in bucket]
    assert alone.key == entries[0].key, "a photo of its own keeps its key, whatever is told of it"


def test_copies_of_an_opted_out_photo_are_out_whomever_they_show(sort):
    out = refusal("opted_out", detail="tdmrep.json")
    rows = [
        row("Ada", "http://a.test/1.jpg", "same", out, ("tdmrep.json",)),
        row("Ada", "http://b.test/1.jpg", "same"),
        row("Bob", "http://c.test/1.jpg", "same"),
        row("Bob", "http://c.test/2.jpg", "other"),
        row("Bob", "http://c.test/3.jpg", "", refusal("opted_out", detail="x-robots-tag: noai")),
        row("Bob", "http://c.test/4.jpg", "", refusal("http_status", 404)),
    ]
    entries = {e.row.source[7:]: e.rejection for bucket in sort(*rows) for e in bucket}
    there = "tdmrep.json at http://a.test/1.jpg"
    assert entries["b.test/1.jpg"] == entries["c.test/1.jpg"] == refusal("opted_out", detail=there)
    assert entries["a.test/1.jpg"].detail == "tdmrep.json"
    assert entries["c.test/2.jpg"] is None
    assert entries["c.test/4.jpg"].reason == "http_status", "photos without bytes are no copies of each other"


def test_other_refusals_take_nothing_along():
    photo = Photo("k", "i", "http://a.test/1.jpg", "same", 9)
    refused = Entry("k", photo, Rejection("crawl", "too_large"))
    assert opted_out_bytes([refused]) == {}
    entry = Entry("l", dataclasses.replace(photo, key="l"))
    assert withdrawn(entry, opted_out_bytes([refused])) is entry


def test_a_spill_gives_back_what_was_put_in_order(monkeypatch):
    monkeypatch.setattr("crawl.spill._HELD", 7)
    with Spill() as spill:
        for n in range(100):
            spill.put(n % 3, {"n": n, "text": "é\ud800\n"})
        heaps = [[r["n"] for r in spill.take(heap)] for heap in range(4)]
        assert next(spill.take(0))["text"] == "é\ud800\n"
    assert heaps == [list(range(start, 100, 3)) for start in range(3)] + [[]]
