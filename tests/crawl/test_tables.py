"""Rows survive a table; a fingerprint says whether a step is done."""

from dataclasses import dataclass

import numpy as np
import pytest

from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.tables import Entry, Tables, arrow_schema, fingerprint


@dataclass(frozen=True, slots=True)
class Nested:
    photo: Photo
    boxes: tuple[tuple[float, float], ...]
    vector: np.ndarray | None
    content: bytes
    note: str | None = None


PHOTO = Photo("k" * 32, "i" * 16, "a/ü.jpg", "0" * 64, 12, signals=("noai",))


@pytest.fixture
def tables(tmp_path):
    return Tables(Output(str(tmp_path)))


def test_rows_and_rejections_come_back_as_they_were(tables):
    row = Nested(PHOTO, ((1.5, 2.0), (3.0, 4.0)), np.array([0.5, -1.0], dtype=np.float32), b"\x00\xff")
    rejection = Rejection("faces", "no_face", 0.1, 0.5, "detail")
    tables.write("scan", 3, Nested, [Entry("a", row), Entry("b", None, rejection)], "f1")
    first, second = tables.read("scan", 3, Nested)
    assert first.row.photo == PHOTO
    assert first.row.boxes == row.boxes
    np.testing.assert_array_equal(first.row.vector, row.vector)
    assert first.row.content == row.content
    assert second == Entry("b", None, rejection)
    assert tables.rejections("scan", 3) == {"a": None, "b": rejection}
    assert tables.count("scan", 3) == 2


def test_more_rows_than_a_chunk_keep_their_order(tables):
    entries = [Entry(f"{n:032x}", PHOTO) for n in range(200)]
    tables.write("crawl", 0, Photo, iter(entries), "f")
    assert [e.key for e in tables.read("crawl", 0, Photo)] == [e.key for e in entries]


def test_a_table_without_rows_is_a_finished_table(tables):
    tables.write("crawl", 0, Photo, [], "f")
    assert tables.fingerprint("crawl", 0) == "f"
    assert list(tables.read("crawl", 0, Photo)) == []


def test_a_stage_that_has_not_run_has_no_fingerprint_and_no_rows(tables):
    assert tables.fingerprint("crawl", 1) is None
    assert list(tables.read("crawl", 1, Photo)) == []
    assert tables.rejections("crawl", 1) == {}
    assert tables.count("crawl", 1) == 0


def test_a_field_that_an_older_table_lacks_takes_its_default(tables):
    @dataclass(frozen=True)
    class Older:
        key: str

    @dataclass(frozen=True)
    class Newer:
        key: str
        note: str | None = None

    tables.write("crawl", 0, Older, [Entry("a", Older("k"))], "f")
    assert list(tables.read("crawl", 0, Newer)) == [Entry("a", Newer("k"))]


def test_an_error_while_rows_are_made_leaves_the_old_table(tables):
    tables.write("crawl", 0, Photo, [Entry("a", PHOTO)], "old")

    def rows():
        yield Entry("b", PHOTO)
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        tables.write("crawl", 0, Photo, rows(), "new")
    assert tables.fingerprint("crawl", 0) == "old"
    assert [e.key for e in tables.read("crawl", 0, Photo)] == ["a"]


def test_fingerprints_depend_on_every_part():
    assert fingerprint("a", 1, {"x": [1, 2]}) == fingerprint("a", 1, {"x": [1, 2]})
    assert len({fingerprint(*p) for p in [("a", 1), ("a", 2), ("a1",), ("a", 1, None)]}) == 4


def test_a_type_without_an_arrow_form_is_refused():
    @dataclass
    class Odd:
        what: set

    with pytest.raises(TypeError, match="no arrow type"):
        arrow_schema(Odd)
