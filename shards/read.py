"""Reading a dataset folder: samples by key, by identity, in order or shuffled.

Every shard is checked against the index before anything of it is given (`verify="first"`): without that a
flipped bit in a picture is silent. `verify="sha256"` also withstands tars that somebody made to deceive.
Headers, sizes and names are checked at every read, whatever `verify` says. Knows nothing of decoding or training.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from crawl.errors import InputError
from crawl.output import Output
from shards.format.files import ShardFiles, Verify
from shards.format.index import IDENTITY, read_index
from shards.format.sample import Sample
from shards.format.stream import OnBadShard, Skip, Stream, order_of
from shards.format.tar import ShardError, unpack

Item = TypeVar("Item")
Group = tuple[str, list[Sample]]
"""An identity and all its samples."""


class Dataset:
    """The shards of a dataset folder: a local path or any fsspec URL.

    Raises InputError when the index is missing or wrong; reading raises ShardError (a ValueError) naming
    the shard and what is wrong with it. `verify="never"` skips only the checksum. Behind a URL it also reads
    ranges where otherwise whole tars are copied, a few at a time: for many epochs or a shuffle, copy first.
    """

    def __init__(self, url: str | os.PathLike[str], verify: Verify = "first") -> None:
        if verify not in ("first", "sha256", "never"):
            raise InputError(f"verify: {verify!r} is not 'first', 'sha256' or 'never'")
        output = Output(os.fspath(url))
        self.index = read_index(output)
        self._files = ShardFiles(output, self.index, verify)
        self._identities = list(self.index.identities)

    def __len__(self) -> int:
        return len(self.index)

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading opens them again."""
        self._files.close()

    @property
    def identities(self) -> list[str]:
        """Identity keys, in order of the tars."""
        return list(self._identities)

    def shard_name(self, position: int) -> str:
        """What errors call the tar that holds this position."""
        return self._files.name(int(self.index.shard_numbers[position]))

    def sample(self, key: str) -> Sample:
        """Raises KeyError for a key that is not in the dataset."""
        position = self.index.position(key)
        return self._read(range(position, position + 1))[0]

    def samples_of(self, identity: str) -> list[Sample]:
        """All samples of one person, in one read a tar. Raises KeyError for an unknown identity."""
        return [sample for part in self._parts(self.index.identities[identity]) for sample in self._read(part)]

    def stream(
        self,
        shuffle_seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        on_bad_shard: OnBadShard = "raise",
    ) -> Stream[Sample]:
        """One epoch over samples, in the order of the tars or shuffled as a whole.

        With `world_size` readers (processes × workers) each sample goes to exactly one.
        """
        return self._stream("sample", len(self), self._one, shuffle_seed, rank, world_size, on_bad_shard)

    def groups(
        self,
        shuffle_seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        on_bad_shard: OnBadShard = "raise",
    ) -> Stream[Group]:
        """One epoch over identities, each with all its samples, also when they fill several tars.

        With `on_bad_shard="skip"` a person whose samples lie partly in a bad tar comes with the others.
        """
        count = len(self._identities)
        return self._stream("identity", count, self._group, shuffle_seed, rank, world_size, on_bad_shard)

    def _stream(
        self,
        unit: str,
        count: int,
        read: Callable[[int, Skip], Item | None],
        shuffle_seed: int | None,
        rank: int,
        world_size: int,
        on_bad_shard: OnBadShard,
    ) -> Stream[Item]:
        if on_bad_shard not in ("raise", "skip"):
            raise InputError(f"on_bad_shard: {on_bad_shard!r} is neither 'raise' nor 'skip'")
        units = order_of(count, shuffle_seed, rank, world_size)
        last_shard = self._last_shard(unit, int(units[-1])) if shuffle_seed is None and len(units) else -1

        def read_and_prepare(number: int, skip: Skip) -> Item | None:
            item = read(number, skip)
            self._files.prepare_next(last_shard)
            return item

        order = {"shuffle_seed": shuffle_seed, "rank": rank, "world_size": world_size}
        return Stream(units, read_and_prepare, {"dataset": self.index.digest, "unit": unit, **order}, on_bad_shard)

    def _last_shard(self, unit: str, number: int) -> int:
        position = number if unit == "sample" else self.index.identities[self._identities[number]][-1]
        return int(self.index.shard_numbers[position])

    def _one(self, position: int, skip: Skip) -> Sample | None:
        samples = self._read_or_skip(range(position, position + 1), skip)
        return samples[0] if samples else None

    def _group(self, number: int, skip: Skip) -> Group | None:
        identity = self._identities[number]
        parts = self._parts(self.index.identities[identity])
        samples = [sample for part in parts for sample in self._read_or_skip(part, skip)]
        return (identity, samples) if samples else None

    def _read_or_skip(self, positions: range, skip: Skip) -> list[Sample]:
        try:
            return self._read(positions)
        except ShardError as error:
            skip(error, len(positions))
            return []

    def _parts(self, positions: range) -> list[range]:
        """Cut where the tar changes."""
        numbers = self.index.shard_numbers[positions.start : positions.stop]
        cuts = [positions.start, *(np.flatnonzero(np.diff(numbers)) + 1 + positions.start), positions.stop]
        return [range(int(a), int(b)) for a, b in pairwise(cuts)]

    def _read(self, positions: range) -> list[Sample]:
        """Samples that are neighbours in one tar, by one read."""
        index, number = self.index, int(self.index.shard_numbers[positions[0]])
        start = int(index.offsets[positions[0]])
        end = int(index.offsets[positions[-1]] + index.num_bytes[positions[-1]])
        content = self._files.read(number, start, end - start)
        samples = []
        for position in positions:
            at = int(index.offsets[position]) - start
            region = content if len(positions) == 1 else content[at : at + int(index.num_bytes[position])]
            samples.append(self._parsed(region, number, position))
        return samples

    def _parsed(self, region: bytes, number: int, position: int) -> Sample:
        try:
            sample = parse_sample(region, self._files.name(number))
        except ShardError as error:
            raise self._files.condemn(number, error.reason) from None
        expected = self.index.keys[position].decode()
        if sample.key != expected or position not in self.index.identities.get(sample.identity, ()):
            reason = f"has {sample.key} of {sample.identity} where the index has {expected}"
            raise self._files.condemn(number, reason)
        return sample


def parse_sample(region: bytes, shard: str) -> Sample:
    """One sample's part of a tar as a Sample; pictures stay bytes, features are checked and stay bytes.

    Raises ShardError for members that are not exactly those of a sample, for JSON that contradicts them or
    is none, and for a feature that is no `.npy` or would need unpickling.
    """
    key, members = unpack(region, shard)
    content = dict(members)
    image, face, document = content.pop("jpg"), content.pop("face.jpg"), content.pop("json")
    features = {suffix.removesuffix(".npy"): feature for suffix, feature in content.items()}
    for name, feature in features.items():
        check_npy(feature, f"{key}.{name}.npy", shard)
    metadata = _metadata(document, key, shard)
    return Sample(key, metadata["identity"], image, face, metadata, features)


def _metadata(document: bytes, key: str, shard: str) -> dict[str, Any]:
    try:
        metadata = _JSON.decode(document.decode())
    except (ValueError, RecursionError) as error:
        raise ShardError(shard, f"{key}.json is not JSON: {error}") from None
    if not isinstance(metadata, dict) or metadata.get("key") != key:
        raise ShardError(shard, f"{key}.json is not of this key")
    if not isinstance(metadata.get("identity"), str) or not IDENTITY.fullmatch(metadata["identity"]):
        raise ShardError(shard, f"{key}.json names no identity")
    return metadata


def check_npy(feature: bytes, name: str, shard: str) -> re.Match[bytes]:
    """By its header alone, in the one form that `numpy.save` gives an array of numbers: nothing is evaluated."""
    match = _NPY.match(feature)
    item_bytes = _ITEM_BYTES.get(match["item"]) if match else None
    if match is None or item_bytes is None or int.from_bytes(feature[8:10], "little") != match.end() - 10:
        raise ShardError(shard, f"{name} is no plain array of numbers")
    num_bytes = item_bytes * math.prod(int(side) for side in match["shape"].split(b",") if side)
    if len(feature) != match.end() + num_bytes:
        raise ShardError(shard, f"{name} has {len(feature) - match.end():,} bytes for an array of {num_bytes:,}")
    return match


def npy_array(feature: bytes, name: str, shard: str) -> npt.NDArray[Any]:
    """The array, a view of `feature`; by `check_npy`'s own reading of the header (numpy's takes longer than a copy)."""
    match = check_npy(feature, name, shard)
    shape = tuple(int(side) for side in match["shape"].split(b",") if side)
    order: Literal["C", "F"] = "F" if match["fortran"] == b"True" else "C"
    return np.frombuffer(feature, match["item"].decode(), offset=match.end()).reshape(shape, order=order)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<item>[|<][biuf]\d)', 'fortran_order': (?P<fortran>False|True), "
    rb"'shape': \((?P<shape>|\d{1,10},|\d{1,10}(?:, \d{1,10}){1,31})\), \} *\n",
    re.DOTALL,
)
_ITEM_BYTES = {b"|b1": 1, b"|i1": 1, b"|u1": 1} | {b"<%c%d" % (kind, n): n for kind in b"iuf" for n in (2, 4, 8)}
