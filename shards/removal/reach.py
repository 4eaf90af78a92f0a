"""How far a request reaches: the photos that are asked for, and those that are the same photos.

The same is: the same bytes, the same address, a duplicate, or (by dHash) the same picture, under whatever name. That is
what the tombstones will refuse, so what is left afterwards is what a new build would find. A photo that verification
says does not show the person is a row of theirs and goes as such; the photo itself may rightly be another person's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crawl.fetching.hosts import host_name
from crawl.tombstones import PICTURE_BITS, Item, picture_item, spelt
from shards.removal.known import Known
from shards.removal.request import Request


@dataclass(frozen=True, slots=True)
class Reach:
    """What goes."""

    rows: list[Known]
    """All of them."""
    photos: list[Known]
    """Those that go as photos, and not only as a row of a person."""

    def items(self, requests: Iterable[Request], identities: Collection[str]) -> list[Item]:
        """The tombstones to leave."""
        items: list[Item] = [request.item for request in requests if request.kind != "identity"]
        items += [("identity", identity) for identity in sorted(identities)]
        for photo in self.photos:
            items += [("sha256", photo.sha256)] if photo.sha256 else []
            items += [("url", spelt("url", url)) for url in photo.addresses]
            items += picture_item(photo.dhashes[0]) if photo.dhashes else []
        return list(dict.fromkeys(items))


def reach(photos: Sequence[Known], requests: Iterable[Request], identities: Collection[str]) -> Reach:
    """`identities`: those that are to be forgotten altogether."""
    wanted = {request.item for request in requests if request.kind != "identity"}
    judged = {(p.identity, p.sha256) for p in photos if p.key and not p.shows}
    asked = {n for n, p in enumerate(photos) if wanted and any(item in wanted for item in answers_to(p))}
    theirs = {n for n, p in enumerate(photos) if p.identity in identities}
    shown = {n for n in theirs if photos[n].shows and (photos[n].identity, photos[n].sha256) not in judged}
    links, found = _Links(photos), set[int]()
    waiting = [*(asked | shown)]
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += links.of(number)
    return Reach([photos[n] for n in sorted(found | theirs)], [photos[n] for n in sorted(found)])


class _Links:
    """Which photos are the same."""

    def __init__(self, photos: Sequence[Known]) -> None:
        self._photos = photos
        self._by: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, photo in enumerate(photos):
            for mark in _marks(photo):
                self._by[mark].append(number)
        self._hashed = [number for number, photo in enumerate(photos) if photo.dhashes]
        hashes = [photos[number].dhashes[0] for number in self._hashed]
        self._hashes = np.array(hashes, dtype=np.int64)

    def of(self, number: int) -> Iterator[int]:
        photo = self._photos[number]
        for mark in _marks(photo):
            yield from self._by[mark]
        if photo.dhashes and picture_item(photo.dhashes[0]):
            hashes = np.array(photo.dhashes, dtype=np.int64)
            near = np.bitwise_count(self._hashes[:, None] ^ hashes).min(axis=1) <= PICTURE_BITS
            yield from (self._hashed[place] for place in np.flatnonzero(near))


def _marks(photo: Known) -> Iterator[tuple[str, str]]:
    """What two rows of one photo have in common."""
    if photo.sha256:
        yield "sha256", photo.sha256
    for url in photo.addresses:
        yield "url", spelt("url", url)
    if photo.key:
        yield "duplicates", photo.key
    if photo.duplicate_of:
        yield "duplicates", photo.duplicate_of


def answers_to(photo: Known) -> Iterator[Item]:
    """Every item by which this photo can be asked for."""
    yield "identity", photo.identity
    if photo.sha256:
        yield "sha256", photo.sha256
    for url in (*photo.addresses, photo.page_url):
        if url:
            yield "url", spelt("url", url)
            host = host_name(url)
            while host:
                yield "domain", host
                host = host.partition(".")[2]
