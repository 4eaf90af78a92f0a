"""What is asked again and what is not, from rows and journals that a test writes."""

import dataclasses
import json
import os

import pyarrow.parquet as pq
import pytest

from crawl.fetching.journal import Journal
from crawl.fetching.partition import Partition, address_key, host_key, target_key
from crawl.fetching.target import Fetched, Target
from crawl.output import Output
from crawl.photo import Rejection
from crawl.store import Store
from crawl.tables import to_record

HOST = "a.test"
GONE = Rejection("crawl", "http_status", 404.0)
LATE = Rejection("crawl", "timeout", None, 30.0)


@pytest.fixture
def output(tmp_path):
    return Output(str(tmp_path / "out"))


def target(n, name="Ada", **more):
    return Target(name, f"http://{HOST}/{n}.jpg", **more)


def row(asked, output, rejection=None, retry=False, fetched_at="2024-05-01T00:00:00+00:00"):
    """A row of the target; its photo is in the store when there is no rejection."""
    sha256, suffix = ("", "bin") if rejection else Store(output).put(b"\xff\xd8\xff" + asked.image_url.encode())
    content = (sha256, 9, suffix, 0, "image/jpeg", '"e"', None)
    return Fetched(asked, asked.image_url, 200, fetched_at, *content, (), "P", rejection, retry)


def write(partition, *rows):
    journal = Journal(partition.journal)
    for made in rows:
        journal.append({"key": target_key(made.target), "row": to_record(made)})
    journal.close()


def asked(partition):
    """URLs of the plan, in order, and whether each is a re-check."""
    partition.plan()
    if not os.path.exists(partition.todo):
        return []
    with open(partition.todo) as todo:
        return [(e["target"]["image_url"][-5:-4], e["known"] is not None) for e in map(json.loads, todo)]


def settled(output, *rows):
    """An earlier, finished run's file of these rows."""
    partition = Partition(HOST, [r.target for r in rows], output)
    partition.plan()
    write(partition, *rows)
    partition.settle()


def test_the_file_of_results_holds_whole_rows_and_nothing_else_stays(output):
    rows = [row(target(1, page_url="https://p/ä\n"), output), row(target(2), output, GONE)]
    rows[0] = dataclasses.replace(rows[0], signals=("x-robots-tag: noai", "meta robots: noai"))
    settled(output, *rows)
    name = f"{host_key(HOST)}.parquet"
    assert os.listdir(output.path("tables/fetch")) == [name]
    assert list(Partition(HOST, [r.target for r in rows], output).rows()) == rows
    metadata = pq.read_schema(output.path(f"tables/fetch/{name}")).metadata
    assert metadata == {b"personae.host": b"a.test"}


def test_an_earlier_run_leaves_open_what_may_pass_and_photos_that_are_gone(output):
    rows = [
        row(target(1), output),
        row(target(2), output, GONE),
        row(target(3), output, LATE, True),
        row(target(4), output),
    ]
    settled(output, *rows)
    os.unlink(output.path(f"photos/{rows[3].sha256[:2]}/{rows[3].sha256}.jpg"))
    again = Partition(HOST, [target(n) for n in range(1, 6)], output)
    assert asked(again) == [("3", False), ("4", False), ("5", False)]


def test_an_interrupted_run_leaves_open_only_what_it_has_no_row_for(output):
    settled(output, row(target(1), output, LATE, True))
    partition = Partition(HOST, [target(n) for n in range(1, 5)], output)
    assert asked(partition) == [(n, False) for n in "1234"]
    write(partition, row(target(1), output, LATE, True), row(target(2), output))
    with open(partition.journal, "ab") as journal:
        journal.write(b'{"key": "' + target_key(target(3)).encode() + b'", "row": {"tar')
    again = Partition(HOST, [target(n) for n in range(1, 5)], output)
    assert asked(again) == [("3", False), ("4", False)]
    write(again, row(target(3), output), row(target(4), output))
    again.settle()
    assert [r.target for r in again.rows()] == [target(n) for n in range(1, 5)]
    assert asked(Partition(HOST, [target(n) for n in range(1, 5)], output)) == [("1", False)]


def test_a_photo_that_a_power_cut_took_is_asked_again_in_the_same_run(output):
    partition = Partition(HOST, [target(1), target(2)], output)
    partition.plan()
    rows = [row(target(n), output) for n in (1, 2)]
    write(partition, *rows)
    os.unlink(output.path(f"photos/{rows[0].sha256[:2]}/{rows[0].sha256}.jpg"))
    assert asked(partition) == [("1", False)]


def test_a_run_killed_just_before_its_end_is_ended_by_the_next_plan(output):
    targets = [target(1), target(2)]
    partition = Partition(HOST, targets, output)
    partition.plan()
    write(partition, row(target(1), output), row(target(2), output, LATE, True))
    assert Partition(HOST, targets, output).plan() == 0
    assert os.listdir(output.path("tables/fetch")) == [f"{host_key(HOST)}.parquet"]
    assert asked(Partition(HOST, targets, output)) == [("2", False)], "and the one after it tries again"


def test_the_latest_row_of_a_target_counts_and_others_are_kept(output):
    settled(output, row(target(1), output, LATE, True), row(target(9), output))
    partition = Partition(HOST, [target(1)], output)
    partition.plan()
    write(partition, row(target(1), output, LATE, True), row(target(1), output))
    partition.settle()
    assert list(Partition(HOST, [target(1)], output).rows()) == [row(target(1), output)]
    assert len(list(Partition(HOST, [target(1), target(9)], output).rows())) == 2


def test_targets_that_share_an_address_share_what_came_of_it(output):
    bob = dataclasses.replace(target(1, "Bob"), image_url=f"HTTP://{HOST}/1.jpg?utm_source=x#top")
    eve = target(1, "Eve", licence="CC0")
    assert address_key(bob.image_url) == address_key(eve.image_url)
    partition = Partition(HOST, [target(1), bob], output)
    assert asked(partition) == [("1", False)]
    write(partition, row(target(1), output))
    partition.settle()
    assert {r.target for r in partition.rows()} == {target(1), bob}
    later = Partition(HOST, [target(1), bob, eve], output)
    assert asked(later) == []
    (shared,) = [r for r in later.rows() if r.target == eve]
    assert shared == dataclasses.replace(row(target(1), output), target=eve)
    assert os.listdir(output.path("tables/fetch")) == [f"{host_key(HOST)}.parquet"]


def test_photos_fetched_before_a_day_are_re_checked_once(output):
    old, new = "2024-05-01T00:00:00+00:00", "2024-06-01T00:00:00+00:00"
    rows = [
        row(target(1), output, fetched_at=old),
        row(target(2), output, fetched_at=new),
        row(target(3), output, GONE),
    ]
    settled(output, *rows)
    targets = [target(n) for n in (1, 2, 3, 4)]
    partition = Partition(HOST, targets, output, refresh_before="2024-05-15T00:00:00+00:00")
    assert asked(partition) == [("1", True), ("4", False)]
    write(partition, row(target(1), output, fetched_at=old))
    again = Partition(HOST, targets, output, refresh_before="2024-05-15T00:00:00+00:00")
    assert asked(again) == [("4", False)]


def test_giving_up_leaves_a_reason_for_every_target_and_known_photos_as_they_are(output):
    settled(output, row(target(1), output))
    partition = Partition(HOST, [target(n) for n in (1, 2, 3)], output, refresh_before="2999")
    assert partition.plan() == 3
    partition.give_up(LATE, "P", "now", retry=True)
    partition.settle()
    assert next(partition.rows()) == row(target(1), output)
    assert [r.rejection for r in partition.rows()] == [None, LATE, LATE]
    partition = Partition(HOST, [target(n) for n in (1, 2, 3)], output)
    partition.give_up(GONE, "P", "now", retry=False, most=1)
    assert [r.rejection for r in partition.rows()] == [None, LATE, GONE]
