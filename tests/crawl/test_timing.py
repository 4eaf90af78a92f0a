"""Steps are timed where they run; a record that is gone or broken is no record."""

import pytest

from crawl.output import Output
from crawl.photo import Photo
from crawl.stage import run_pending
from crawl.tables import Entry, Tables
from crawl.timing import FOLDER, Timing, note, timings, total_timings


class Step:
    """Does three photos; of another step's it says one more."""

    name = "step"

    def __init__(self, tables):
        self._tables = tables

    def fingerprint(self, bucket):
        return "f"

    def run(self, bucket, fingerprint, tick):
        tick("step", 1)
        tick("fetch: timeout", 7)
        tick("step", 2)
        rows = [Entry(key, Photo(key, "i", key, "", 1)) for key in "abc"]
        self._tables.write("step", bucket, Photo, rows, fingerprint)


@pytest.fixture
def tables(tmp_path):
    return Tables(Output(str(tmp_path)))


def test_a_step_that_runs_is_timed_and_one_that_is_done_is_not(tables):
    told = []
    assert run_pending([Step(tables)], 0, tables, lambda name, n: told.append((name, n))) == ["step"]
    first = timings(tables.output, 0)["step"]
    assert first.photos == 3
    assert first.seconds >= 0
    assert told == [("step", 1), ("fetch: timeout", 7), ("step", 2)], "and the bars are told as before"
    tables.output.remove(f"{FOLDER}/00000.json")
    assert run_pending([Step(tables)], 0, tables, lambda name, n: None) == []
    assert timings(tables.output, 0) == {}


def test_totals_are_over_buckets_and_the_last_time_counts(tables):
    for bucket, seconds in ((0, 9.0), (0, 2.0), (3, 1.0)):
        note(tables.output, bucket, "scan", Timing(10, seconds))
    note(tables.output, 0, "crop", Timing(4, 0.5))
    assert total_timings(tables.output) == {"scan": Timing(20, 3.0), "crop": Timing(4, 0.5)}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"scan": 3}', b'{"scan": ["a", "b"]}', b"\xff"])
def test_a_broken_record_is_none(tables, content):
    tables.output.write(f"{FOLDER}/00000.json", content)
    assert timings(tables.output, 0) == {}
    note(tables.output, 0, "scan", Timing(1, 1.0))
    assert timings(tables.output, 0) == {"scan": Timing(1, 1.0)}
