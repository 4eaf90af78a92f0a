"""The crawl stage: rows of every source, in one order, each file read once."""

from pathlib import Path

import pytest

from crawl.collect import CrawlStage
from crawl.config import CrawlRun
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo, bucket_of, identity_key
from crawl.store import Store
from crawl.tables import Tables

JPEG = b"\xff\xd8\xff\xe0 not a whole photo, and no matter here: "


@pytest.fixture
def crawl(tmp_path):
    """Run the stage over all buckets; returns (rows, files read, people)."""

    def run(crawl, buckets=3):
        config = CrawlRun.model_validate(
            {"output": str(tmp_path / "out"), "crawl": crawl, "shards": {"buckets": buckets}}
        )
        output = Output(config.output)
        stage, tables, read = CrawlStage(config, output), Tables(output), []
        put = stage._store.put
        stage._store.put = lambda content: read.append(content) or put(content)
        for bucket in range(buckets):
            stage.run(bucket, stage.fingerprint(bucket), lambda name, photos: None)
        rows = [e for b in range(buckets) for e in tables.read("crawl", b, Photo)]
        people = [e.row for b in range(buckets) for e in tables.read("people", b, Person)]
        return rows, read, people

    return run


@pytest.fixture
def photos(tmp_path):
    for name in ("ada/1.jpg", "ada/2.jpg", "bob/1.jpg", "bob/empty.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if "empty" in name else JPEG + name.encode())
    return tmp_path / "photos"


def test_each_file_has_a_row_in_its_persons_bucket(crawl, photos, tmp_path):
    rows, read, people = crawl({"root": str(photos)})
    assert sorted(e.row.source for e in rows) == ["ada/1.jpg", "ada/2.jpg", "bob/1.jpg", "bob/empty.jpg"]
    assert {e.row.source: e.rejection and e.rejection.reason for e in rows}["bob/empty.jpg"] == "empty"
    assert {p.name: p.identity for p in people} == {n: identity_key(n) for n in ("ada", "bob")}
    for bucket in range(3):
        for entry in Tables(Output(str(tmp_path / "out"))).read("crawl", bucket, Photo):
            assert bucket_of(entry.row.identity, 3) == bucket
    store = Store(Output(str(tmp_path / "out")))
    assert {store.read(e.row) for e in rows if not e.rejection} == set(read)


def test_an_unchanged_file_is_not_read_again(crawl, photos):
    crawl({"root": str(photos)})
    (photos / "ada" / "2.jpg").write_bytes(JPEG + b"another")
    rows, read, _ = crawl({"root": str(photos), "licence": "CC0-1.0"})
    assert read == [JPEG + b"another"]
    assert {e.row.licence for e in rows if not e.rejection} == {"CC0-1.0"}


def test_lost_bytes_are_read_again(crawl, photos, tmp_path):
    first, _, _ = crawl({"root": str(photos)})
    for original in (tmp_path / "out" / "photos").rglob("*.jpg"):
        original.unlink()
    again, read, _ = crawl({"root": str(photos)})
    assert len(read) == 3
    assert again == first


def test_two_folders_are_two_sources_of_one_person(crawl, photos, tmp_path):
    other = tmp_path / "more"
    (other / "ada").mkdir(parents=True)
    (other / "ada" / "1.jpg").write_bytes(JPEG + b"ada/1.jpg")
    rows, _, people = crawl({"sources": [{"source": "folder", "root": str(r)} for r in (photos, other)]})
    assert [e.row.source for e in rows if e.row.identity == identity_key("ada")] == [
        "1:ada/1.jpg",
        "1:ada/2.jpg",
        "2:ada/1.jpg",
    ]
    assert len({e.key for e in rows}) == 5
    assert [p.name for p in people].count("ada") == 1


def test_settings_and_files_change_the_fingerprint_of_their_bucket_only(photos, tmp_path):
    def fingerprints(**crawl):
        run = CrawlRun.model_validate({"output": str(tmp_path / "o"), "crawl": {"root": str(photos), **crawl}})
        stage = CrawlStage(run, Output(run.output))
        return [stage.fingerprint(b) for b in range(16)]

    before = fingerprints()
    assert fingerprints() == before
    assert all(a != b for a, b in zip(before, fingerprints(licence="x"), strict=True))
    Path(photos / "ada" / "3.jpg").write_bytes(b"x")
    changed = [b for b, (x, y) in enumerate(zip(before, fingerprints(), strict=True)) if x != y]
    assert changed == [bucket_of(identity_key("ada"), 16)]
