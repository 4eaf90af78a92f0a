"""`shards/index.json`: every shard with its hash, and where each sample of each identity lies.

The index is the truth about a dataset: a tar that differs from it is not read. Reading it checks that its
samples tile every shard without a gap. Knows nothing of what is inside the tars.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl.errors import InputError, one_line
from crawl.output import Output
from crawl.photo import IDENTITY_KEY_LENGTH, PHOTO_KEY_LENGTH
from shards.format.checksum import HEX_DIGITS, Checksum
from shards.format.tar import BLOCK, END

FORMAT = 1
FOLDER = "shards"
INDEX = f"{FOLDER}/index.json"
SHARD_NAME = re.compile(r"(\d{5})-(\d{3,})\.tar", re.ASCII)
_KEY = re.compile(rf"[0-9a-f]{{{PHOTO_KEY_LENGTH}}}")
IDENTITY = re.compile(rf"[0-9a-f]{{{IDENTITY_KEY_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One tar."""

    file: str
    """Name inside `shards/`: BBBBB-NNN.tar, identity bucket and running number."""
    num_bytes: int
    sha256: str
    samples: int
    xxh3_128: str | None = None
    """None in an index written before there was one: then reading checks the SHA-256."""

    @property
    def everyday_checksum(self) -> Checksum:
        """What reading checks when nobody asks for more."""
        return "sha256" if self.xxh3_128 is None else "xxh3_128"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where one sample lies: one ranged read gives its members."""

    key: str
    identity: str
    shard: str
    """`ShardRow.file`."""
    offset: int
    """Of its first member's header, in bytes; a multiple of 512."""
    num_bytes: int
    """Of all its members with headers and padding."""


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """A whole `index.json`. A *position* counts samples in the order of the tars: bucket, number, offset."""

    buckets: int
    shards: tuple[ShardRow, ...]
    identities: Mapping[str, range]
    """Identity → the positions of its samples, in order of position."""
    keys: npt.NDArray[np.bytes_]
    shard_numbers: npt.NDArray[np.int64]
    """Per position the place of its tar in `shards`."""
    offsets: npt.NDArray[np.int64]
    num_bytes: npt.NDArray[np.int64]
    by_key: npt.NDArray[np.int64]
    """Positions in order of key."""
    version: int = 1
    """Of the dataset: every takedown makes it one more."""

    def __len__(self) -> int:
        return len(self.keys)

    def position(self, key: str) -> int:
        """Raises KeyError for a key that is not in the dataset."""
        wanted = np.bytes_(key.encode())
        place = int(np.searchsorted(self.keys, wanted, sorter=self.by_key))
        position = int(self.by_key[place]) if place < len(self) else -1
        if position < 0 or self.keys[position] != wanted:
            raise KeyError(key)
        return position

    def positions_in(self, shard_number: int) -> range:
        first, last = np.searchsorted(self.shard_numbers, [shard_number, shard_number + 1])
        return range(int(first), int(last))

    def rows(self) -> Iterator[IndexRow]:
        """Every sample, in order of position."""
        for identity, positions in self.identities.items():
            for p in positions:
                shard = self.shards[self.shard_numbers[p]].file
                yield IndexRow(self.keys[p].decode(), identity, shard, int(self.offsets[p]), int(self.num_bytes[p]))

    @property
    def digest(self) -> str:
        """Hash of all shards' hashes: two datasets with one digest hold the same samples in the same order."""
        return hashlib.sha256("\n".join(f"{s.file} {s.sha256}" for s in self.shards).encode()).hexdigest()


def shard_name(bucket: int, number: int) -> str:
    return f"{bucket:05d}-{number:03d}.tar"


def place_of(file: str) -> tuple[int, int]:
    """(bucket, running number) of a shard's name. Raises ValueError for any other name."""
    match = SHARD_NAME.fullmatch(file)
    if match is None or shard_name(int(match[1]), int(match[2])) != file:
        raise ValueError(f"{reprlib.repr(file)} is no shard's name")
    return int(match[1]), int(match[2])


def write_index(
    output: Output,
    buckets: int,
    shard_rows: Iterable[ShardRow],
    index_rows: Iterable[IndexRow],
    name: str = INDEX,
    version: int = 1,
) -> None:
    """Write an `index.json`: the same rows in any order give the same bytes, one line a shard and one an identity.

    `version`: of the dataset; the first is not written down.
    """
    shards = sorted(shard_rows, key=lambda shard: place_of(shard.file))
    numbers = {shard.file: number for number, shard in enumerate(shards)}
    identities: dict[str, list[tuple[str, int, int, int]]] = {}
    for row in index_rows:
        place = (row.key, numbers[row.shard], row.offset, row.num_bytes)
        identities.setdefault(row.identity, []).append(place)
    identity_lines = (
        f'"{identity}":{_compact(sorted(places, key=lambda place: place[1:]))}'
        for identity, places in sorted(identities.items())
    )
    with output.create(name) as file:
        numbered = f'"version":{version},' if version > 1 else ""
        file.write(f'{{"format":{FORMAT},{numbered}"buckets":{buckets},\n"shards":[\n'.encode())
        file.write(",\n".join(_compact(_shard_entry(shard)) for shard in shards).encode())
        file.write(b'\n],\n"identities":{\n')
        file.write(",\n".join(identity_lines).encode())
        file.write(b"\n}}\n")


def read_index(output: Output, name: str = INDEX) -> Index:
    """Read and check an `index.json`.

    Raises InputError, one line naming the file, when it is missing, of another format, or wrong in itself.
    """
    path = output.path(name)
    try:
        document = json.loads(output.read(name))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: not found: no finished dataset there") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {one_line(error)}") from None
    if not isinstance(document, dict) or "format" not in document:
        raise InputError(f"{path}: not an index of shards")
    if document["format"] != FORMAT or isinstance(document["format"], bool):
        raise InputError(
            f"{path}: format {reprlib.repr(document['format'])}, this version of Personae reads format {FORMAT}"
        )
    try:
        return _from_document(document)
    except KeyError as error:
        raise InputError(f"{path}: broken: {error} is missing") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: broken: {one_line(error)}") from None


def _from_document(document: dict[str, Any]) -> Index:
    shards = tuple(
        ShardRow(s["file"], s["bytes"], s["sha256"], s["samples"], s.get("xxh3_128")) for s in document["shards"]
    )
    _check_shards(document["buckets"], shards)
    names = list(document["identities"])
    places = [place for name in names for place in document["identities"][name]]
    _require(all(len(place) == 4 for place in places), "a sample's place is [key, shard, offset, bytes]")
    shard_numbers, offsets, num_bytes = (_integers([place[i] for place in places]) for i in (1, 2, 3))
    _require(not np.any((shard_numbers < 0) | (shard_numbers >= len(shards))), "a shard number is out of range")
    order = np.lexsort((offsets, shard_numbers))
    counts = np.array([len(document["identities"][name]) for name in names], np.int64)
    owner = np.repeat(np.arange(len(names)), counts)[order]
    keys = _keys([place[0] for place in places])[order]
    index = Index(
        document["buckets"],
        shards,
        _ranges(names, owner),
        keys,
        shard_numbers[order],
        offsets[order],
        num_bytes[order],
        np.argsort(keys),
        document.get("version", 1),
    )
    _require(type(index.version) is int and index.version > 0, f"version is {reprlib.repr(index.version)}")
    _check_tiling(index)
    return index


def _check_shards(buckets: Any, shards: tuple[ShardRow, ...]) -> None:
    _require(type(buckets) is int and buckets > 0, f"buckets is {reprlib.repr(buckets)}")
    for shard in shards:
        _require(place_of(shard.file)[0] < buckets, f"{shard.file} lies outside the {buckets} buckets")
        for checksum in {"sha256", shard.everyday_checksum}:
            _check_digest(shard, checksum)
        _require(type(shard.num_bytes) is int and type(shard.samples) is int, f"{shard.file}: sizes are no integers")
    for before, shard in pairwise(shards):
        _require(place_of(before.file) < place_of(shard.file), f"{shard.file} is there twice or out of order")


def _check_digest(shard: ShardRow, checksum: Checksum) -> None:
    digest = getattr(shard, checksum)
    whole = re.fullmatch(rf"[0-9a-f]{{{HEX_DIGITS[checksum]}}}", digest)
    _require(whole is not None, f"{shard.file}: {reprlib.repr(digest)} is no {checksum}")


def _keys(keys: list[Any]) -> npt.NDArray[np.bytes_]:
    wrong = next((key for key in keys if not _KEY.fullmatch(key)), None)
    _require(wrong is None, f"{reprlib.repr(wrong)} is no sample's key")
    return np.array(keys, dtype=f"S{PHOTO_KEY_LENGTH}")


def _integers(column: list[Any]) -> npt.NDArray[np.int64]:
    values = np.array(column, dtype=None if column else np.int64)
    _require(values.dtype == np.int64, "shard numbers, offsets and bytes must be integers")
    return values


def _ranges(names: list[str], owner: npt.NDArray[np.int64]) -> dict[str, range]:
    """Identity → positions, in order of position."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    ends = np.append(starts[1:], len(owner))[: len(starts)]
    owners = owner[starts]
    _require(len(np.unique(owners)) == len(owners), "the samples of one identity are not adjacent")
    _require(len(owners) == len(names), "an identity has no samples")
    wrong = next((name for name in names if not IDENTITY.fullmatch(name)), None)
    _require(wrong is None, f"{reprlib.repr(wrong)} is no identity's key")
    return {names[o]: range(int(s), int(e)) for o, s, e in zip(owners, starts, ends, strict=True)}


def _check_tiling(index: Index) -> None:
    """The samples of each shard must fill it from 0 to its end blocks: what proves that none is left out."""
    _require(not np.any(index.keys[index.by_key[1:]] == index.keys[index.by_key[:-1]]), "a key is there twice")
    numbers, ends = index.shard_numbers, index.offsets + index.num_bytes
    _require(not np.any(index.num_bytes % BLOCK | (index.num_bytes <= 0)), "a sample has an impossible size")
    counts = np.bincount(numbers, minlength=len(index.shards))
    for shard, count in zip(index.shards, counts, strict=True):
        _require(0 < shard.samples == count, f"{shard.file} should have {shard.samples} samples, {count} are listed")
    first = np.diff(numbers, prepend=-1) != 0
    before = np.concatenate([np.zeros(min(1, len(index)), np.int64), ends[:-1]])
    _require(np.array_equal(index.offsets, np.where(first, 0, before)), "samples overlap or leave a gap")
    last_ends = ends[np.cumsum(counts) - 1] if len(index) else ends
    for shard, end in zip(index.shards, last_ends, strict=True):
        _require(end + len(END) == shard.num_bytes, f"{shard.file}: the last sample does not end where the tar does")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _shard_entry(shard: ShardRow) -> dict[str, Any]:
    entry = {"file": shard.file, "bytes": shard.num_bytes, "sha256": shard.sha256, "samples": shard.samples}
    return entry if shard.xxh3_128 is None else {**entry, "xxh3_128": shard.xxh3_128}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
