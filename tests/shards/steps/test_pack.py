"""The tables of the shards stage, as later versions and other days find them."""

from __future__ import annotations

from dataclasses import dataclass

from crawl.output import Output
from crawl.tables import Entry, Tables
from shards.steps.pack import TARS, shard_rows, shards_are_there


@dataclass(frozen=True)
class ShardRow1:
    """`shards.format.index.ShardRow` before it had a fast checksum."""

    file: str
    num_bytes: int
    sha256: str
    samples: int


def test_tars_of_a_build_before_fast_checksums_are_known_and_missed(tmp_path):
    output, row = Output(str(tmp_path)), ShardRow1("00000-000.tar", 3, "a" * 64, 1)
    Tables(output).write(TARS, 0, ShardRow1, [Entry(row.file, row)], "an earlier version's")
    assert not shards_are_there(output, 0)
    output.write(f"shards/{row.file}", b"tar")
    assert shards_are_there(output, 0)
    assert [(s.file, s.xxh3_128) for s in shard_rows(output, 1)] == [(row.file, None)]
