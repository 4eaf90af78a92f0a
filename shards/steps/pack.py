"""The shards stage: portraits and captions of a bucket become its tars and its part of the index.

Reads encoded crops and writes them unchanged: no pixel is touched here.
"""

from __future__ import annotations

from collections.abc import Iterator

from caption.captioned import Caption, Captioned
from crawl.output import Output
from crawl.stage import Tick
from crawl.tables import Entry, Tables, fingerprint
from filter.portrait import Portrait
from shards.config import BuildRun
from shards.format.index import IndexRow, ShardRow
from shards.format.sample import Sample, to_sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket

VERSION = 3
TARS = "tars"
UPSTREAM = ("crop", "caption")


class PackStage:
    """`shards/BBBBB-NNN.tar`, `tables/tars`: Entry[ShardRow], `tables/shards`: Entry[IndexRow] a sample."""

    name = "shards"

    def __init__(self, run: BuildRun, output: Output) -> None:
        self._max_bytes = round(run.shards.max_shard_mb * 1e6)
        self._output = output
        self._tables = Tables(output)

    def fingerprint(self, bucket: int) -> str:
        upstream = [self._tables.fingerprint(stage, bucket) for stage in UPSTREAM]
        return fingerprint(self.name, VERSION, self._max_bytes, upstream)

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        sizes = [(s.identity, sample_size(s)) for s in self._samples(bucket)]
        shards, rows = write_bucket(self._output, bucket, self._ticking(bucket, tick), sizes, self._max_bytes)
        self._tables.write(TARS, bucket, ShardRow, (Entry(s.file, s) for s in shards), fingerprint)
        self._tables.write(self.name, bucket, IndexRow, (Entry(r.key, r) for r in rows), fingerprint)

    def _ticking(self, bucket: int, tick: Tick) -> Iterator[Sample]:
        for sample in self._samples(bucket):
            yield sample
            tick(self.name, 1)

    def _samples(self, bucket: int) -> Iterator[Sample]:
        captions = {e.key: e.row for e in self._tables.read("caption", bucket, Caption) if e.row is not None}
        for entry in self._tables.read("crop", bucket, Portrait):
            if entry.row is not None and entry.key in captions:
                yield to_sample(Captioned(entry.row, captions[entry.key]))


def shard_rows(output: Output, buckets: int) -> Iterator[ShardRow]:
    """Every shard of the dataset, in order of its name."""
    tables = Tables(output)
    for bucket in range(buckets):
        yield from (e.row for e in tables.read(TARS, bucket, ShardRow) if e.row is not None)


def index_rows(output: Output, buckets: int) -> Iterator[IndexRow]:
    """Every sample's place, in order of shard and offset."""
    tables = Tables(output)
    for bucket in range(buckets):
        yield from (e.row for e in tables.read("shards", bucket, IndexRow) if e.row is not None)


def shards_are_there(output: Output, bucket: int) -> bool:
    """False when a tar of the bucket was lost or cut since it was written."""
    rows = (e.row for e in Tables(output).read(TARS, bucket, ShardRow) if e.row is not None)
    names = ((f"shards/{row.file}", row.num_bytes) for row in rows)
    return all(output.exists(name) and output.size(name) == num_bytes for name, num_bytes in names)
