"""Photos that lie on this machine: the sources that are folders, seen bucket by bucket.

Files read before and unchanged since (size and modification time) are not read again. Knows nothing of
networks or of what the photos show.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

from crawl.config import FolderSettings
from crawl.containers import header_pixels
from crawl.people.person import Person
from crawl.photo import Photo, Rejection, bucket_of, identity_key, photo_key
from crawl.source_config import CelebaSettings
from crawl.sources.celeba import CelebaSource
from crawl.sources.folder import FolderSource, Found
from crawl.store import Store
from crawl.tables import Entry
from crawl.tombstones import NO_TOMBSTONES, REMOVED, Tombstones, nameless

STRAY = ""
"""Identity of files that lie in no person's folder."""


class LocalPhotos:
    """One folder source, cut into identity buckets. What there is, is settled when it is made."""

    def __init__(self, settings: FolderSettings | CelebaSettings, buckets: int, max_bytes: int, prefix: str) -> None:
        """`prefix` keeps paths of several folders apart. Raises InputError when there is nothing to find."""
        self._settings = settings
        self._buckets = buckets
        self._max_bytes = max_bytes
        self._prefix = prefix
        celeba = isinstance(settings, CelebaSettings)
        self._source = CelebaSource(settings) if celeba else FolderSource(settings.root)  # type: ignore[arg-type]

    def people(self, bucket: int) -> Iterator[Person]:
        """In order of identity; also of those who were taken down: the crawl stage leaves them out."""
        for identity, name in self._names(bucket).items():
            yield Person(identity, name, self._settings.basis, self._settings.source)

    def listing(self, bucket: int) -> list[object]:
        """All that the bucket's photos depend on, without reading one."""
        found = [(f.source, f.num_bytes, f.modified_ns, f.refused) for _, f in self._found(bucket)]
        return [self._settings.model_dump(mode="json", exclude={"root"}), self._max_bytes, self._prefix, found]

    def size(self, bucket: int) -> int:
        """How many files there are."""
        return sum(1 for _ in self._found(bucket))

    def entries(
        self, bucket: int, store: Store, before: Mapping[str, Entry[Photo]], tombstones: Tombstones = NO_TOMBSTONES
    ) -> Iterator[Entry[Photo]]:
        """One entry a file; `before` are the last run's, by source. Files of people taken down are not opened."""
        for identity, found in self._found(bucket):
            if tombstones.person(identity):
                yield Entry("", nameless(""), REMOVED)
                continue
            found = dataclasses.replace(found, source=self._prefix + found.source)
            known = before.get(found.source)
            if known is not None and self._is_same(known, found) and store.has(known.row):  # type: ignore[arg-type]
                yield Entry(known.key, dataclasses.replace(known.row, licence=self._settings.licence))  # type: ignore[type-var]
            else:
                yield self._read(identity, found, store, tombstones)

    def _names(self, bucket: int) -> dict[str, str]:
        keys = {identity_key(name): name for name in self._source.people()}
        return {k: keys[k] for k in sorted(keys) if bucket_of(k, self._buckets) == bucket}

    def _found(self, bucket: int) -> Iterator[tuple[str, Found]]:
        for identity, name in self._names(bucket).items():
            for found in self._source.find(name):
                yield identity, found
        if bucket_of(STRAY, self._buckets) == bucket:
            for found in self._source.strays():
                yield STRAY, found

    def _is_same(self, known: Entry[Photo], found: Found) -> bool:
        row = known.row
        same = row is not None and (row.num_bytes, row.modified_ns) == (found.num_bytes, found.modified_ns)
        return same and known.rejection is None

    def _read(self, identity: str, found: Found, store: Store, tombstones: Tombstones) -> Entry[Photo]:
        content = self._source.read(found, self._max_bytes)
        if isinstance(content, Rejection):
            key = photo_key(identity, found.source, "")
            return Entry(key, Photo(key, identity, found.source, "", found.num_bytes, "bin"), content)
        if tombstones and tombstones.content(hashlib.sha256(content).hexdigest()):
            return Entry("", nameless(identity), REMOVED)
        sha256, suffix = store.put(content)
        return Entry(
            key := photo_key(identity, found.source, sha256),
            Photo(
                key=key,
                identity=identity,
                source=found.source,
                sha256=sha256,
                num_bytes=len(content),
                suffix=suffix,
                header_pixels=header_pixels(content),
                modified_ns=found.modified_ns,
                licence=self._settings.licence,
            ),
        )
