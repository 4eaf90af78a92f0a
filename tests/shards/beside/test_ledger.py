"""One row a photo, every photo accounted for."""

from dataclasses import replace

import pyarrow as pa
import pytest

from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.tables import Entry, Tables
from filter.decide import Verified
from shards.beside.ledger import NotConserved, bucket_ledger, funnel, read_ledger, write_ledger
from shards.format.index import IndexRow


def photo(key, source):
    return Photo(key, "i" * 16, source, "h" + key, 10, licence="CC0-1.0")


@pytest.fixture
def output(tmp_path):
    """Five photos: one unreadable, one duplicate, one of somebody else, one without caption, one kept."""
    tables = Tables(Output(str(tmp_path)))
    photos = [Entry(k, photo(k, f"p/{k}.jpg")) for k in "abcd"]
    failed = Entry("z", Photo("z", "i" * 16, "p/0.jpg", "", 0), Rejection("crawl", "empty"))
    tables.write("crawl", 0, Photo, [*photos, failed], "f")
    duplicate = Rejection("duplicates", "duplicate", 3.0, 6.0, "b")
    tables.write("scan", 0, Photo, [Entry("a", None, duplicate), *(Entry(k, photo(k, k)) for k in "bcd")], "f")
    stranger = Rejection("verify", "not_this_person", 0.1, 0.4)
    entries = [Entry("b", Verified(0, 0.9, ())), Entry("c", None, stranger), Entry("d", Verified(0, 0.8, ()))]
    tables.write("verify", 0, Verified, entries, "f")
    tables.write("crop", 0, Photo, [Entry("b", photo("b", "b")), Entry("d", photo("d", "d"))], "f")
    uncaptioned = Entry("d", None, Rejection("caption", "error", detail="ValueError: no"))
    tables.write("caption", 0, Photo, [Entry("b", photo("b", "b")), uncaptioned], "f")
    tables.write("shards", 0, IndexRow, [Entry("b", IndexRow("b", "i", "00000-000.tar", 0, 512))], "f")
    return Output(str(tmp_path))


def test_every_photo_has_a_row_with_where_it_ended(output):
    rows = {row.key: row for row in bucket_ledger(Tables(output), 0)}
    assert {k: (r.status, r.stage, r.reason) for k, r in rows.items()} == {
        "z": ("failed", "crawl", "empty"),
        "a": ("rejected", "duplicates", "duplicate"),
        "b": ("kept", "shards", None),
        "c": ("rejected", "verify", "not_this_person"),
        "d": ("rejected", "caption", "error"),
    }
    assert (rows["a"].duplicate_of, rows["a"].detail, rows["a"].value) == ("b", None, 3.0)
    assert (rows["d"].duplicate_of, rows["d"].detail) == (None, "ValueError: no")
    assert (rows["c"].value, rows["c"].threshold) == (0.1, 0.4)


def test_a_kept_photo_has_the_strictest_licence_of_its_copies(output):
    tables = Tables(output)
    entries = [
        replace(e, row=replace(e.row, licence="CC BY-NC 4.0")) if e.key == "a" else e
        for e in tables.read("crawl", 0, Photo)
    ]
    tables.write("crawl", 0, Photo, entries, "f")
    licences = {row.key: row.licence for row in bucket_ledger(tables, 0)}
    assert licences == {"a": "CC BY-NC 4.0", "b": "CC BY-NC 4.0", "c": "CC0-1.0", "d": "CC0-1.0", "z": None}


def test_the_funnel_adds_up(output):
    write_ledger(output, 2, "stamp")
    steps = {s.stage: s for s in funnel(read_ledger(output))}
    assert [(s.stage, s.entered, s.left) for s in steps.values()] == [
        ("crawl", 5, 4), ("duplicates", 4, 3), ("faces", 3, 3), ("verify", 3, 2), ("crop", 2, 2), ("caption", 2, 1),
    ]  # fmt: skip
    assert steps["crawl"].reasons == (("empty", 1),)


def test_a_lost_photo_is_never_overlooked(output):
    Tables(output).write("shards", 0, IndexRow, [], "f")
    with pytest.raises(NotConserved, match=r"p/b\.jpg: neither kept nor rejected"):
        write_ledger(output, 1, "stamp")
    assert not output.exists("ledger.parquet")


def test_a_rejected_photo_in_a_shard_is_never_overlooked(output):
    rows = [Entry(k, IndexRow(k, "i", "00000-000.tar", 0, 512)) for k in "bc"]
    Tables(output).write("shards", 0, IndexRow, rows, "f")
    with pytest.raises(NotConserved, match=r"p/c\.jpg: both"):
        write_ledger(output, 1, "stamp")


def test_a_stage_nobody_knows_does_not_hide_photos():
    with pytest.raises(NotConserved, match="1 found, 0 kept, but the stages leave 1"):
        funnel(pa.table({"stage": ["unheard of"], "reason": ["x"]}))
