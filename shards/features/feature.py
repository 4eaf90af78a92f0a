"""Cached features: `features/NAME/`, tars and index in the layout of the shards, and what they were made from.

A feature's tars match the dataset's one to one, sample by sample, so the base shards stay as they are and any
feature can be added or removed by itself. Knows no encoder: `shards.features.encode` makes them.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from crawl.errors import InputError, one_line
from crawl.output import Output
from shards.encoders.config import DType
from shards.format.files import ShardFiles, Verify
from shards.format.index import Index, read_index
from shards.format.tar import ShardError, packed, unpack
from shards.read import npy_array

FOLDER = "features"
INDEX = "index.json"
MADE_FROM = "made_from.json"
VERSION = 1
"""Of what goes into an encoder; a change makes every cached feature untrue."""
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """What a feature was made from: `made_from.json`."""

    feature: str
    encoder: str
    """Where the weights came from, for people."""
    digest: str
    """Of the encoder's weights and settings."""
    dtype: DType
    size_px: int | None = None
    """Side the crop was resized to; None where it does not matter."""
    version: int = VERSION
    shards: Mapping[str, str] = field(default_factory=dict)
    """Finished tars → sha256 of the dataset's tar that each was made from."""

    def untrue(self, wanted: MadeFrom, base: Index) -> str | None:
        """Why these features are not what `wanted` would make of the dataset; None when they are, in either dtype."""
        if (self.feature, self.version) != (wanted.feature, wanted.version):
            return "made by another version of Personae"
        if self.digest != wanted.digest:
            other = "other weights" if self.encoder == wanted.encoder else self.encoder
            return f"made by {other} than {wanted.encoder}"
        if self.size_px != wanted.size_px:
            return f"made from crops of {self.size_px} px, not {wanted.size_px} px"
        files = {shard.file: shard.sha256 for shard in base.shards}
        changed = sorted(file for file in files.keys() | self.shards if files.get(file) != self.shards.get(file))
        return f"not made from {changed[0]} as it is now" if changed else None

    def settled(self, wanted: MadeFrom) -> bool:
        """Same encoder, size and dtype: finished tars can stay."""
        return dataclasses.replace(self, shards={}, encoder="") == dataclasses.replace(wanted, shards={}, encoder="")


def feature_output(dataset_url: str, name: str) -> Output:
    return Output(f"{dataset_url.rstrip('/')}/{FOLDER}/{name}")


def read_made_from(output: Output) -> MadeFrom | None:
    """None when there is none. Raises InputError naming the file for anything else."""
    try:
        made_from = MadeFrom(**json.loads(output.read(MADE_FROM)))
        if not isinstance(made_from.shards, dict):
            raise ValueError("shards: not a mapping")
        return made_from
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{output.path(MADE_FROM)}: broken: {one_line(error)}") from None


def write_made_from(output: Output, made_from: MadeFrom) -> None:
    output.write(MADE_FROM, (json.dumps(dataclasses.asdict(made_from), sort_keys=True, indent=0) + "\n").encode())


class Feature:
    """One finished feature of a dataset, read by position of the sample.

    Raises InputError, one line, when it is missing, unfinished, or not what `wanted` would make of the dataset.
    """

    def __init__(self, dataset_url: str, wanted: MadeFrom, base: Index, verify: Verify = "first") -> None:
        self.name = wanted.feature
        output = feature_output(dataset_url, self.name)
        made_from, folder = read_made_from(output), output.path("").rstrip("/")
        if made_from is None or not output.exists(INDEX):
            raise InputError(f"{folder}: {'missing' if made_from is None else 'unfinished'}")
        reason = made_from.untrue(wanted, base)
        self._index = read_index(output, INDEX)
        if reason is None and not _same_places(self._index, base):
            reason = "its index has other samples than the dataset's"
        if reason is not None:
            raise InputError(f"{folder}: {reason}")
        self.made_from = made_from
        self._files = ShardFiles(output, self._index, verify, folder="")

    def arrays(self, position: int) -> dict[str, Array]:
        """NAME → array; float32. Raises ShardError naming the tar that is not as its index says."""
        index, number = self._index, int(self._index.shard_numbers[position])
        region = self._files.read(number, int(index.offsets[position]), int(index.num_bytes[position]))
        try:
            return _arrays(region, index.keys[position].decode(), self.name, self._files.name(number))
        except ShardError as error:
            raise self._files.condemn(number, error.reason) from None

    def close(self) -> None:
        self._files.close()


def feature_region(key: str, feature: str, arrays: Mapping[str, Array]) -> list[bytes]:
    """One sample's part of a feature's tar."""
    members = [(f"{key}.{name}.npy", npy_bytes(array)) for name, array in sorted(arrays.items())]
    return packed(members, (f"{feature}.npy",))


def npy_bytes(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _same_places(index: Index, base: Index) -> bool:
    files = [shard.file for shard in index.shards] == [shard.file for shard in base.shards]
    return files and np.array_equal(index.keys, base.keys) and np.array_equal(index.shard_numbers, base.shard_numbers)


def _arrays(region: bytes, key: str, feature: str, shard: str) -> dict[str, Array]:
    found, members = unpack(region, shard, (f"{feature}.npy",))
    if found != key:
        raise ShardError(shard, f"has {found} where the index has {key}")
    return {
        suffix.removesuffix(".npy"): npy_array(content, f"{key}.{suffix}", shard).astype(np.float32)
        for suffix, content in members.items()
    }
