"""Photos that were fetched from the network, sorted into identity buckets for the crawl stage.

`tables/found` holds a bucket's photos, `tables/found-people` its people; both are written again only when
they differ. Knows nothing of how photos are fetched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from crawl.fetching.target import Fetched
from crawl.optout import opted_out_bytes, withdrawn
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo, bucket_of, identity_key, photo_key
from crawl.scrub import mentions
from crawl.spill import Spill
from crawl.store import Store
from crawl.tables import Entry, Tables, fingerprint, from_record, to_record
from crawl.tombstones import NO_TOMBSTONES, REMOVED, Tombstones, nameless
from crawl.wanted import removed_names

FOUND = "found"
FOUND_PEOPLE = "found-people"


class NetworkPhotos:
    """What `sort_into_buckets` left for each bucket."""

    def __init__(self, output: Output) -> None:
        self._tables = Tables(output)

    def people(self, bucket: int) -> Iterator[Person]:
        """In order of identity."""
        return (e.row for e in self._tables.read(FOUND_PEOPLE, bucket, Person) if e.row is not None)

    def listing(self, bucket: int) -> list[object]:
        """All that the bucket's photos depend on."""
        return [self._tables.fingerprint(FOUND, bucket), self._tables.fingerprint(FOUND_PEOPLE, bucket)]

    def size(self, bucket: int) -> int:
        """How many photos there are."""
        return self._tables.count(FOUND, bucket)

    def entries(
        self, bucket: int, store: Store, before: Mapping[str, Entry[Photo]], tombstones: Tombstones = NO_TOMBSTONES
    ) -> Iterator[Entry[Photo]]:
        """One entry a photo; their bytes are in the store already, and what was taken down is out."""
        return self._tables.read(FOUND, bucket, Photo)


def sort_into_buckets(
    output: Output,
    buckets: int,
    rows: Iterable[Fetched],
    people: Iterable[Person],
    removed: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write each bucket's tables: a photo for each target, in memory a bucket at a time.

    Two sources may list one address for one identity, with another page or licence: each is a photo of its own,
    and the second a duplicate. Of opted-out photos whose bytes are known all copies are out, whomever they show.
    `removed`: name → how many of that person's photos were taken down.
    """
    opted_out: dict[str, str] = {}
    with Spill() as spill:
        for row in rows:
            opted_out |= opted_out_bytes([_entry(row)])
            spill.put(bucket_of(identity_key(row.target.name), buckets), to_record(row))
        tables, known = Tables(output), sorted(people, key=lambda p: p.identity)
        for bucket in range(buckets):
            entries = _distinct(from_record(Fetched, record) for record in spill.take(bucket))
            there = [withdrawn(entry, opted_out) for entry in entries]
            write_found(tables, bucket, there, _of_bucket(removed, bucket, buckets))
            here = (p for p in known if bucket_of(p.identity, buckets) == bucket)
            _write(tables, FOUND_PEOPLE, bucket, Person, [Entry(p.identity, p) for p in here])


def write_found(tables: Tables, bucket: int, entries: Iterable[Entry[Photo]], removed: Mapping[str, int]) -> None:
    """A bucket's photos; behind them a row for each that was taken down: `removed`, by identity."""
    gone = [Entry("", nameless(identity), REMOVED) for identity in sorted(removed) for _ in range(removed[identity])]
    _write(tables, FOUND, bucket, Photo, [*entries, *gone])


def scrub_found(output: Output, buckets: int, words: Collection[str]) -> None:
    """Take out every row that mentions one of these words; `tables/targets` says how many photos were taken down."""
    tables, removed = Tables(output), removed_names(output)
    for bucket in range(buckets):
        if tables.fingerprint(FOUND, bucket) is not None:
            entries = [e for e in tables.read(FOUND, bucket, Photo) if e.rejection != REMOVED]
            there = [e for e in entries if not mentions(to_record(e), words)]
            write_found(tables, bucket, there, _of_bucket(removed, bucket, buckets))
            people = [e for e in tables.read(FOUND_PEOPLE, bucket, Person) if not mentions(to_record(e), words)]
            _write(tables, FOUND_PEOPLE, bucket, Person, people)


def _of_bucket(removed: Mapping[str, int], bucket: int, buckets: int) -> dict[str, int]:
    here: Counter[str] = Counter()
    for name, count in removed.items():
        identity = identity_key(name) if name else ""
        if bucket_of(identity, buckets) == bucket:
            here[identity] += count
    return here


def _distinct(rows: Iterable[Fetched]) -> Iterator[Entry[Photo]]:
    """In order of address and identity; of several photos with one key all but the first get another."""
    taken: set[str] = set()
    for row in sorted(rows, key=_order):
        entry = _entry(row)
        if entry.key in taken:
            entry = _entry(row, " ".join(_order(row)))
        taken.add(entry.key)
        yield entry


def _order(row: Fetched) -> tuple[str, ...]:
    target = row.target
    told = (target.page_url, target.licence, target.author, target.attribution)
    return (target.image_url, identity_key(target.name), *(text or "" for text in told))


def _write(tables: Tables, name: str, bucket: int, row_type: type, entries: list[Entry]) -> None:  # type: ignore[type-arg]
    stamp = fingerprint(name, [to_record(entry) for entry in entries])
    if tables.fingerprint(name, bucket) != stamp:
        tables.write(name, bucket, row_type, entries, stamp)


def _entry(row: Fetched, told: str | None = None) -> Entry[Photo]:
    """`told`: what tells it from another photo of the same address."""
    target, identity = row.target, identity_key(row.target.name)
    key = photo_key(identity, told or target.image_url, row.sha256)
    photo = Photo(
        key=key,
        identity=identity,
        source=target.image_url,
        sha256=row.sha256,
        num_bytes=row.num_bytes,
        suffix=row.suffix,
        header_pixels=row.header_pixels,
        page_url=target.page_url,
        image_url=target.image_url,
        licence=target.licence,
        author=target.author,
        fetched_at=row.fetched_at,
        signals=row.signals,
        attribution=target.attribution,
        final_url=row.final_url,
        http_status=row.http_status,
        content_type=row.content_type,
        etag=row.etag,
        last_modified=row.last_modified,
        user_agent=row.user_agent,
    )
    return Entry(key, photo, row.rejection)
