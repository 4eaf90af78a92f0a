"""The crawl stage: every photo found for the people of a bucket, its bytes in the store, one row each.

A file that could not be had is a row too, with the reason. Files read before and unchanged since
(size and modification time) are not read again. Knows nothing of what the photos show.
"""

from __future__ import annotations

from collections.abc import Iterator

from crawl.config import CrawlRun
from crawl.decode import header_size
from crawl.output import Output
from crawl.people import Person
from crawl.photo import Photo, Rejection, bucket_of, identity_key, photo_key
from crawl.sources.folder import FolderSource, Found
from crawl.stage import Tick
from crawl.store import Store
from crawl.tables import Entry, Tables, fingerprint

VERSION = 1
PEOPLE = "people"
STRAY = ""
"""Identity of files that lie in no person's folder."""


class CrawlStage:
    """`tables/crawl`: Entry[Photo], with a rejection beside the row when there are no bytes; `tables/people`."""

    name = "crawl"

    def __init__(self, run: CrawlRun, output: Output) -> None:
        self._config = run.crawl
        self._buckets = run.shards.buckets
        self._source = FolderSource(run.crawl.root)
        self._store = Store(output)
        self._tables = Tables(output)

    def fingerprint(self, bucket: int) -> str:
        config = self._config.model_dump(exclude={"root"})
        listing = [(f.source, f.num_bytes, f.modified_ns, f.refused) for _, f in self._found(bucket)]
        return fingerprint(self.name, VERSION, config, self._buckets, listing)

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        self._tables.write(PEOPLE, bucket, Person, self._people(bucket), fingerprint)
        self._tables.write(self.name, bucket, Photo, self._collect(bucket, tick), fingerprint)

    def size(self, bucket: int) -> int:
        """How many files there are in a bucket."""
        return sum(1 for _ in self._found(bucket))

    def _names(self, bucket: int) -> dict[str, str]:
        """identity → name, in order of identity."""
        keys = {identity_key(name): name for name in self._source.people()}
        return {k: keys[k] for k in sorted(keys) if bucket_of(k, self._buckets) == bucket}

    def _people(self, bucket: int) -> Iterator[Entry[Person]]:
        for identity, name in self._names(bucket).items():
            yield Entry(identity, Person(identity, name, self._config.basis, self._config.source))

    def _found(self, bucket: int) -> Iterator[tuple[str, Found]]:
        for identity, name in self._names(bucket).items():
            for found in self._source.find(name):
                yield identity, found
        if bucket_of(STRAY, self._buckets) == bucket:
            for found in self._source.strays():
                yield STRAY, found

    def _collect(self, bucket: int, tick: Tick) -> Iterator[Entry[Photo]]:
        known = {
            (e.row.source, e.row.num_bytes, e.row.modified_ns): e
            for e in self._tables.read(self.name, bucket, Photo)
            if e.row is not None and e.rejection is None and self._store.has(e.row)
        }
        for identity, found in self._found(bucket):
            before = known.get((found.source, found.num_bytes, found.modified_ns))
            if before is not None and before.row is not None and before.row.licence == self._config.licence:
                yield before
            else:
                yield self._fetch(identity, found)
            tick(self.name, 1)

    def _fetch(self, identity: str, found: Found) -> Entry[Photo]:
        content = self._source.read(found, self._config.max_bytes)
        if isinstance(content, Rejection):
            key = photo_key(identity, found.source, "")
            return Entry(key, Photo(key, identity, found.source, "", found.num_bytes, "bin"), content)
        sha256, suffix = self._store.put(content)
        height, width = header_size(content) or (0, 0)
        key = photo_key(identity, found.source, sha256)
        photo = Photo(
            key,
            identity,
            found.source,
            sha256,
            len(content),
            suffix,
            height * width,
            found.modified_ns,
            licence=self._config.licence,
        )
        return Entry(key, photo)
