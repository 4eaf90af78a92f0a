"""Taking words out of tables: rows that mention them go, all else stays as it was."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow.parquet as pq
import pytest

from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.scrub import keep_rows, mentions, restamp, scrub_parquet, scrub_tables
from crawl.tables import Entry, Tables

NAME = "tables/things/00003.parquet"


@dataclass(frozen=True, slots=True)
class Thing:
    photo: Photo
    words: tuple[str, ...]
    picture: bytes


@pytest.fixture
def output(tmp_path):
    entries = [
        Entry(f"key-{n}", Thing(Photo(f"key-{n}", "who", f"source-{n}", "", n), (f"word-{n}", "all"), b"\xff" * n))
        for n in range(200)
    ]
    entries.append(Entry("rejected", None, Rejection("scan", "duplicate", detail="key-7")))
    output = Output(str(tmp_path))
    Tables(output).write("things", 3, Thing, entries, "stamp")
    return output


def keys(output):
    return [e.key for e in Tables(output).read("things", 3, Thing)]


@pytest.mark.parametrize(
    ("value", "there"),
    [("a", True), ("ab", False), (["x", ("a",)], True), ({"k": {"l": ["a"]}}, True), ({"a": 1}, False), (b"a", False)],
)
def test_a_word_is_a_whole_value_anywhere_in_a_row(value, there):
    assert mentions(value, {"a"}) is there


def test_rows_that_mention_a_word_go_from_any_column(output):
    before = keys(output)
    assert scrub_parquet(output, NAME, {"key-7", "word-70", "source-150"})
    gone = {"key-7", "key-70", "key-150", "rejected"}
    assert keys(output) == [key for key in before if key not in gone]
    assert Tables(output).fingerprint("things", 3) == "stamp"
    entry = list(Tables(output).read("things", 3, Thing))[8]
    assert entry.row == Thing(Photo("key-9", "who", "source-9", "", 9), ("word-9", "all"), b"\xff" * 9)


def test_a_table_without_the_word_is_not_written_again(output, tmp_path):
    before = (tmp_path / NAME).stat().st_mtime_ns
    assert not scrub_parquet(output, NAME, {"word", "key"})
    assert (tmp_path / NAME).stat().st_mtime_ns == before


def test_a_table_may_be_left_empty(output):
    assert scrub_parquet(output, NAME, {"all", "rejected"})
    assert keys(output) == []
    assert Tables(output).fingerprint("things", 3) == "stamp"


def test_only_some_keys_stay_and_only_the_stamp_changes(output):
    rows = pq.read_table(output.path(NAME)).to_pylist()
    keep_rows(output, NAME, {"key-1", "key-199"})
    restamp(output, NAME, b"personae.fingerprint", "another")
    assert Tables(output).fingerprint("things", 3) == "another"
    assert pq.read_table(output.path(NAME)).to_pylist() == [rows[1], rows[199]]


def test_lists_journals_and_notes_of_a_killed_worker(output, tmp_path):
    folder = tmp_path / "tables" / "fetch"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps([{"url": "u1"}, {"url": "u2"}]))
    (folder / "all.json").write_text(json.dumps([{"url": "u1"}]))
    (folder / "h.journal").write_text('{"key": "u1"}\n{"key": "u2"}\n{"key": "u1')
    (tmp_path / "tables" / ".scan-00001.holds").write_text("u1")
    (tmp_path / "tables" / ".scan-00002.holds").write_text("u2")
    scrub_tables(output, {"u1"}, leave={"things"})
    assert json.loads((folder / "one.json").read_text()) == [{"url": "u2"}]
    assert not (folder / "all.json").exists()
    assert (folder / "h.journal").read_text() == '{"key": "u2"}\n'
    assert sorted(f.name for f in (tmp_path / "tables").glob(".*")) == [".scan-00002.holds"]
