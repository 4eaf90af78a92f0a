"""What was taken down and must not come back: `tombstones.json`, salted hashes of addresses, people and photos.

A tombstone answers "is this it?" and says nothing else: no name, address or hash of a file can be read from it. Whoever
holds the file can still test a guess, since the salt lies beside the hashes: it keeps lists of known names or
addresses from being looked up in bulk, and two datasets from being compared. Knows nothing of how a photo is removed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from crawl.errors import InputError
from crawl.fetching.hosts import host_name
from crawl.output import Output
from crawl.photo import Photo, Rejection, identity_key
from crawl.policy.canonical import BadUrl, canonical

FILE = "tombstones.json"
FORMAT = 1
TAKEN_DOWN = "taken_down"
REMOVED = Rejection("crawl", TAKEN_DOWN)
"""All that is said of a photo that was taken down."""
Kind = Literal["identity", "url", "domain", "sha256", "picture"]
KINDS: tuple[Kind, ...] = ("identity", "url", "domain", "sha256", "picture")
PICTURE_BITS = 2
"""In so many bits of its dHash another picture may differ and still be this one."""
_TELLING_BITS = range(8, 57)
"""Set bits of a dHash that says something: flat pictures all have nearly none, or nearly all."""
Item = tuple[Kind, str]
"""A kind and the plain text of it, as `spelt` gives it."""


@dataclass(frozen=True, slots=True)
class Graves:
    """Hashes of one salt."""

    salt: str
    hashes: Mapping[str, frozenset[str]]

    def holds(self, kind: Kind, text: str) -> bool:
        known = self.hashes.get(kind)
        return bool(known) and _hash(self.salt, kind, text) in known  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Tombstones:
    """All tombstones of a dataset; a merged one has several salts."""

    version: int = 1
    """Of the dataset: every takedown makes it one more."""
    sets: tuple[Graves, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sets)

    def person(self, identity: str) -> bool:
        return bool(identity) and self._holds("identity", identity)

    def name(self, name: str) -> bool:
        return bool(self.sets and name) and self.person(identity_key(name))

    def address(self, *urls: str | None) -> bool:
        """Whether one of these URLs, or the domain of one, was taken down."""
        return bool(self.sets) and any(self._url(url) for url in urls if url)

    def content(self, sha256: str) -> bool:
        return bool(sha256) and self._holds("sha256", sha256)

    def picture(self, *dhashes: int) -> bool:
        """Whether a picture of these dHashes (its own, the mirrored one's) was taken down."""
        if not any(graves.hashes.get("picture") for graves in self.sets):
            return False
        return any(self._holds("picture", text) for dhash in dhashes for text in _nearby(dhash))

    def photo(self, photo: Photo) -> bool:
        """Whether this photo is one that was taken down, by all that its row says."""
        addresses = (photo.image_url, photo.page_url, photo.final_url)
        return bool(self.sets) and (
            self.person(photo.identity) or self.content(photo.sha256) or self.address(*addresses)
        )

    def with_items(self, items: Iterable[Item], new_salt: str, version: int) -> Tombstones:
        """These and more, under the salt that is there, or the new one when there is none."""
        first, *others = self.sets or (Graves(new_salt, {}),)
        found: dict[str, set[str]] = {kind: set(first.hashes.get(kind, ())) for kind in KINDS}
        for kind, text in items:
            found[kind].add(_hash(first.salt, kind, text))
        hashes = {kind: frozenset(texts) for kind, texts in found.items() if texts}
        return Tombstones(version, (replace(first, hashes=hashes), *others))

    def _url(self, url: str) -> bool:
        if self._holds("url", spelt("url", url)):
            return True
        host = host_name(url)
        return any(self._holds("domain", parent) for parent in _parents(host))

    def _holds(self, kind: Kind, text: str) -> bool:
        return any(graves.holds(kind, text) for graves in self.sets)


NO_TOMBSTONES = Tombstones()


def spelt(kind: Kind, text: str) -> str:
    """The one spelling of an item: canonical URLs, hosts in lower case and ASCII."""
    if kind == "url":
        try:
            return canonical(text)
        except BadUrl:
            return text
    return text.lower() if kind == "sha256" else text


def picture_item(dhash: int) -> list[Item]:
    """The tombstone of a picture; [] for a dHash that many pictures share."""
    return [("picture", str(dhash))] if _bits(dhash).bit_count() in _TELLING_BITS else []


def read_tombstones(output: Output) -> Tombstones:
    """None were left when there is no file. Raises InputError naming a file that is broken."""
    if not output.exists(FILE):
        return Tombstones()
    try:
        document = json.loads(output.read(FILE))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}, this version reads format {FORMAT}")
        sets = tuple(_graves(entry) for entry in document["sets"])
        return Tombstones(int(document["version"]), sets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{output.path(FILE)}: broken: {error}") from None


def write_tombstones(output: Output, tombstones: Tombstones) -> None:
    """The same tombstones give the same bytes."""
    sets = [
        {"salt": graves.salt, **{kind: sorted(graves.hashes[kind]) for kind in KINDS if graves.hashes.get(kind)}}
        for graves in tombstones.sets
    ]
    document = {"format": FORMAT, "version": tombstones.version, "sets": sets}
    output.write(FILE, (json.dumps(document, indent=0) + "\n").encode())


def united(every: Iterable[Tombstones]) -> Tombstones:
    """All of them: sets of one salt are joined, others stand side by side, in order of their salts."""
    by_salt: dict[str, dict[str, frozenset[str]]] = {}
    version = 1
    for tombstones in every:
        version = max(version, tombstones.version)
        for graves in tombstones.sets:
            known = by_salt.setdefault(graves.salt, {})
            for kind, hashes in graves.hashes.items():
                known[kind] = known.get(kind, frozenset()) | hashes
    return Tombstones(version, tuple(Graves(salt, by_salt[salt]) for salt in sorted(by_salt)))


def nameless(identity: str) -> Photo:
    """The row of a photo that was taken down: whose it was, or "" when that person is to be forgotten too."""
    return Photo("", identity, "", "", 0, "bin")


def removed_key(bucket: int, number: int) -> str:
    """Counts, and is made from nothing."""
    return f"removed-{bucket:05d}-{number:05d}"


def _graves(entry: Mapping[str, object]) -> Graves:
    salt = entry["salt"]
    if not isinstance(salt, str) or not re.fullmatch("[0-9a-f]{32,}", salt):
        raise ValueError("a salt that is none")
    hashes = {kind: frozenset(entry.get(kind, ())) for kind in KINDS}  # type: ignore[call-overload]
    return Graves(salt, {kind: texts for kind, texts in hashes.items() if texts})


def _hash(salt: str, kind: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\0{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _parents(host: str) -> Iterator[str]:
    """The host and the domains it lies in."""
    while host:
        yield host
        host = host.partition(".")[2]


def _bits(dhash: int) -> int:
    return dhash & (1 << 64) - 1


def _nearby(dhash: int) -> Iterator[str]:
    """All dHashes that differ in at most PICTURE_BITS bits, as text: 2,081."""
    for count in range(PICTURE_BITS + 1):
        for bits in itertools.combinations(range(64), count):
            near = _bits(dhash)
            for bit in bits:
                near ^= 1 << bit
            yield str(near - (1 << 64) if near >> 63 else near)
