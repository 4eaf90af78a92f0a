"""The crawl stage: every photo found for the people of a bucket, its bytes in the store, one row each.

A photo that could not be had is a row too, with the reason. Knows nothing of what the photos show.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from crawl.config import CrawlRun
from crawl.found import NetworkPhotos
from crawl.local import LocalPhotos
from crawl.optout import opted_out_bytes, withdrawn
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo
from crawl.stage import Tick
from crawl.store import Store
from crawl.tables import Entry, Tables, fingerprint
from crawl.tombstones import REMOVED, Tombstones, read_tombstones, removed_key

VERSION = 3
PEOPLE = "people"


class Source(Protocol):
    """Some photos of each bucket."""

    def people(self, bucket: int) -> Iterator[Person]: ...

    def listing(self, bucket: int) -> list[object]:
        """All that the bucket's entries depend on, of what JSON can hold."""
        ...

    def size(self, bucket: int) -> int: ...

    def entries(
        self, bucket: int, store: Store, before: Mapping[str, Entry[Photo]], tombstones: Tombstones
    ) -> Iterator[Entry[Photo]]:
        """One entry a photo, in the store unless rejected; `before` are the last run's, by source."""
        ...


def numbered(entries: Iterable[Entry[Photo]], bucket: int) -> list[Entry[Photo]]:
    """A bucket's photos in the order of its table; those that were taken down have a number for a key."""
    ordered = sorted(entries, key=lambda e: (e.row.identity, e.row.source))  # type: ignore[union-attr]
    numbers = itertools.count()
    for place, entry in enumerate(ordered):
        if entry.rejection == REMOVED and entry.row is not None:
            key = removed_key(bucket, next(numbers))
            ordered[place] = Entry(key, dataclasses.replace(entry.row, key=key), REMOVED)
    return ordered


class CrawlStage:
    """`tables/crawl`: Entry[Photo], with a rejection beside the row when there are no bytes; `tables/people`."""

    name = "crawl"

    def __init__(self, run: CrawlRun, output: Output) -> None:
        settings, buckets = run.crawl.local_sources, run.shards.buckets
        several = len(settings) > 1
        self._sources: list[Source] = [
            LocalPhotos(source, buckets, run.crawl.max_bytes, f"{number}:" if several else "")
            for number, source in enumerate(settings, start=1)
        ]
        if run.crawl.network_sources:
            self._sources.append(NetworkPhotos(output))
        self._buckets = buckets
        self._output, self._store = output, Store(output)
        self._tables = Tables(output)

    def fingerprint(self, bucket: int) -> str:
        return fingerprint(self.name, VERSION, self._buckets, [source.listing(bucket) for source in self._sources])

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        self._tables.write(PEOPLE, bucket, Person, self._people(bucket), fingerprint)
        self._tables.write(self.name, bucket, Photo, self._collect(bucket, tick), fingerprint)

    def size(self, bucket: int) -> int:
        """How many photos there are in a bucket."""
        return sum(source.size(bucket) for source in self._sources)

    def _people(self, bucket: int) -> list[Entry[Person]]:
        """In order of identity; whom two sources name has the basis of the first."""
        people: dict[str, Person] = {}
        tombstones = read_tombstones(self._output)
        for source in self._sources:
            for person in source.people(bucket):
                people.setdefault(person.identity, person)
        return [Entry(identity, people[identity]) for identity in sorted(people) if not tombstones.person(identity)]

    def _collect(self, bucket: int, tick: Tick) -> Iterator[Entry[Photo]]:
        """Photos of one identity come together, whatever sources they are from; copies of what opted out are out."""
        tombstones = read_tombstones(self._output)
        before = {e.row.source: e for e in self._tables.read(self.name, bucket, Photo) if e.row is not None}
        entries: list[Entry[Photo]] = []
        for source in self._sources:
            for entry in source.entries(bucket, self._store, before, tombstones):
                entries.append(entry)
                tick(self.name, 1)
        self._store.sync()
        entries = numbered(entries, bucket)
        for _, group in itertools.groupby(entries, key=lambda e: e.row.identity):  # type: ignore[union-attr]
            photos = list(group)
            opted_out = opted_out_bytes(photos)
            yield from (withdrawn(entry, opted_out) for entry in photos)
