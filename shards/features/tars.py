"""Writing one feature's folder: its tars, what each was made from, and at the end its index.

`made_from.json` is rewritten after every tar, so that a killed run goes on where it was; readers want the index,
which is there only while everything is. The same arrays always give the same bytes. Knows no encoder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from crawl.errors import InputError
from shards.features.feature import (
    INDEX,
    Array,
    MadeFrom,
    feature_output,
    feature_region,
    read_made_from,
    write_made_from,
)
from shards.format.checksum import Both
from shards.format.index import SHARD_NAME, Index, IndexRow, ShardRow, write_index
from shards.format.sample import Sample
from shards.format.tar import END, regions


class FeatureTars:
    """The tars of one feature while they are made. Finished ones that are still true stay."""

    def __init__(self, dataset_url: str, wanted: MadeFrom, base: Index) -> None:
        self._output, self._base = feature_output(dataset_url, wanted.feature), base
        found = read_made_from(self._output)
        true = found.shards if found is not None and found.settled(wanted) else {}
        kept = {
            shard.file: shard.sha256
            for shard in base.shards
            if true.get(shard.file) == shard.sha256 and self._output.exists(shard.file)
        }
        self._made_from = dataclasses.replace(wanted, shards=kept)
        self._whole = found is not None and found.shards == kept and self._output.exists(INDEX)
        self._rows: dict[int, tuple[ShardRow, list[IndexRow]]] = {}
        self.pending = {number for number, shard in enumerate(base.shards) if shard.file not in kept}

    def begin(self) -> None:
        """Before the first tar: from now on the feature is unfinished, and nothing untrue is left of it."""
        if self._done:
            return
        self._output.remove(INDEX)
        write_made_from(self._output, self._made_from)
        self._output.remove_stale(["."])
        for name in self._output.names(""):
            if SHARD_NAME.fullmatch(name) and name not in self._made_from.shards:
                self._output.remove(name)

    @contextlib.contextmanager
    def write(self, number: int) -> Iterator[TarWriter]:
        """One tar, seen under its name only once it is whole."""
        name = self._base.shards[number].file
        with self._output.create(name) as file:
            writer = TarWriter(file, name, self._made_from)
            yield writer
            self._rows[number] = writer.end(), writer.rows

    def done(self, number: int) -> None:
        """That tar is under its name, and true."""
        shard = self._base.shards[number]
        finished = dict(sorted({**self._made_from.shards, shard.file: shard.sha256}.items()))
        self._made_from = dataclasses.replace(self._made_from, shards=finished)
        self.pending.discard(number)
        write_made_from(self._output, self._made_from)

    def finish(self) -> str:
        """Write the index; the feature in one line."""
        made, folder = self._made_from, self._output.path("").rstrip("/")
        assert not self.pending
        if self._done:
            return f"{folder}: there already, by {made.encoder}"
        found = [self._rows.get(number) or self._scan(number) for number in range(len(self._base.shards))]
        write_index(
            self._output, self._base.buckets, (s for s, _ in found), (r for _, rows in found for r in rows), INDEX
        )
        samples, num_bytes = sum(s.samples for s, _ in found), sum(s.num_bytes for s, _ in found)
        return f"{folder}: {samples} samples, {num_bytes / 1e6:.1f} MB, {made.dtype}, by {made.encoder}"

    @property
    def _done(self) -> bool:
        return self._whole and not self.pending and not self._rows

    def _scan(self, number: int) -> tuple[ShardRow, list[IndexRow]]:
        """A tar of an earlier run. Raises InputError when it is not of the dataset's samples, ShardError when torn."""
        shard, path = self._base.shards[number], self._output.path(self._base.shards[number].file)
        positions, checksums = self._base.positions_in(number), Both()
        with self._output.open(shard.file) as file:
            num_bytes = file.seek(0, io.SEEK_END)
            found = list(regions(file, num_bytes, path))
            file.seek(0)
            while chunk := file.read(1 << 20):
                checksums.update([chunk])
        if [key for key, _, _ in found] != [key.decode() for key in self._base.keys[positions.start : positions.stop]]:
            raise InputError(f"{path}: has other samples than the dataset's tar: remove it and encode again")
        owners = self._owners
        rows = [IndexRow(key, owners[key], shard.file, at, size) for key, at, size in found]
        return ShardRow(shard.file, num_bytes, checksums.sha256, len(rows), checksums.xxh3_128), rows

    @functools.cached_property
    def _owners(self) -> dict[str, str]:
        return {row.key: row.identity for row in self._base.rows()}


class TarWriter:
    """Into an open file, one sample after another."""

    def __init__(self, file: IO[bytes], name: str, made_from: MadeFrom) -> None:
        self._file, self._name, self._made_from = file, name, made_from
        self._checksums, self._at = Both(), 0
        self.rows: list[IndexRow] = []

    def add(self, sample: Sample, arrays: Mapping[str, Array]) -> None:
        """Raises InputError for a value that `dtype` cannot hold."""
        feature, dtype = self._made_from.feature, self._made_from.dtype
        with np.errstate(over="ignore"):
            kept = {name: array.astype(dtype) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in kept.values()):
            raise InputError(f"{sample.key}: {feature} is not finite in {dtype}")
        pieces = feature_region(sample.key, feature, kept)
        num_bytes = self._put(pieces)
        self.rows.append(IndexRow(sample.key, sample.identity, self._name, self._at - num_bytes, num_bytes))

    def end(self) -> ShardRow:
        self._put([END])
        return ShardRow(self._name, self._at, self._checksums.sha256, len(self.rows), self._checksums.xxh3_128)

    def _put(self, pieces: list[bytes]) -> int:
        self._file.writelines(pieces)
        self._checksums.update(pieces)
        num_bytes = sum(map(len, pieces))
        self._at += num_bytes
        return num_bytes
