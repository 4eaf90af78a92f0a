"""Checking shards against every promise of docs/data-format.md, and saying all that is wrong.

One shard at a time, as a pure function of its bytes and its part of the index, so that any number can be
checked side by side. Knows nothing of what stands beside the shards (`beside`) or how the dataset was built.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import bucket_of
from crawl.tombstones import NO_TOMBSTONES, Tombstones, read_tombstones
from shards.format.checksum import Both
from shards.format.index import FOLDER, INDEX, Index, IndexRow, ShardRow, place_of, read_index
from shards.format.sample import Sample
from shards.format.tar import ShardError, regions
from shards.read import parse_sample
from shards.verify.beside import problems_beside
from shards.verify.parallel import SideBySide, side_by_side, worth
from shards.verify.sample import FIELDS as FIELDS
from shards.verify.sample import sample_problems


@dataclass(slots=True)
class Contents:
    """What a tar was found to hold, whatever an index says."""

    file: str
    num_bytes: int
    sha256: str = ""
    xxh3_128: str = ""
    rows: list[IndexRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def verify_dataset(
    output: Output, decode: bool = True, workers: int | None = 1, spread: SideBySide = side_by_side
) -> list[str]:
    """Everything wrong with a dataset folder, one line each; [] when all promises hold.

    `decode`: every pixel too. `workers`: processes; None for as many as pay. `spread`: how shards are shared out.
    """
    try:
        index = read_index(output)
    except InputError as error:
        return [str(error)]
    work = [(shard, rows) for shard, rows in rows_by_shard(index)]
    problems = [*_strays(output, index), *_misplaced(index)]
    for found in spread(functools.partial(_verify_one, output, decode), work, workers or worth(work, decode)):
        problems += found
    return [*problems, *problems_beside(output, index)]


def _verify_one(output: Output, decode: bool, shard: ShardRow, rows: Sequence[IndexRow]) -> list[str]:
    return verify_shard(output, shard, rows, decode)


def rows_by_shard(index: Index) -> Iterator[tuple[ShardRow, list[IndexRow]]]:
    """The arguments of `verify_shard`, for each shard of the dataset."""
    shards = {shard.file: shard for shard in index.shards}
    for file, rows in groupby(index.rows(), key=lambda row: row.shard):
        yield shards[file], list(rows)


def verify_shard(output: Output, shard: ShardRow, rows: Sequence[IndexRow], decode: bool = True) -> list[str]:
    """Everything wrong with one shard, given what the index says of it."""
    name = f"{FOLDER}/{shard.file}"
    try:
        with output.open(name) as file:
            found = _inspect(file, name, decode, read_tombstones(output))
    except FileNotFoundError:
        return [f"{name}: is missing"]
    problems = found.problems
    if found.num_bytes != shard.num_bytes:
        problems.append(f"{name}: has {found.num_bytes:,} bytes, the index says {shard.num_bytes:,}")
    if found.sha256 != shard.sha256:
        problems.append(f"{name}: its sha256 is {found.sha256}, the index says {shard.sha256}")
    if shard.xxh3_128 not in (found.xxh3_128, None):
        problems.append(f"{name}: its xxh3_128 is {found.xxh3_128}, the index says {shard.xxh3_128}")
    if len(found.rows) != shard.samples:
        problems.append(f"{name}: has {len(found.rows)} readable samples, the index says {shard.samples}")
    different = next(((f, r) for f, r in zip(found.rows, rows, strict=False) if not _same_place(f, r)), None)
    if different is not None:
        problems.append(f"{name}: holds {_place(different[0])} where the index has {_place(different[1])}")
    return problems


def verify_tar(path: str | os.PathLike[str]) -> list[str]:
    """Everything wrong with one tar on this machine, without an index: nothing else vouches for its pixels."""
    try:
        with open(path, "rb") as file:
            return _inspect(file, os.fspath(path), True, NO_TOMBSTONES).problems
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{os.fspath(path)}: no such file") from None


def _inspect(file: IO[bytes], name: str, decode: bool, tombstones: Tombstones) -> Contents:
    """Read a whole tar once: members, samples, pictures, adjacency, checksums."""
    found = Contents(os.path.basename(name), file.seek(0, os.SEEK_END))
    checksums, hashed = Both(), 0
    try:
        for key, offset, num_bytes in regions(file, found.num_bytes, name):
            file.seek(offset)
            region = file.read(num_bytes)
            checksums.update([region])
            hashed = offset + len(region)
            identity, problems = _examine(region, name, decode, tombstones)
            found.problems += problems
            found.rows.append(IndexRow(key, identity, found.file, offset, num_bytes))
    except ShardError as error:
        found.problems.append(str(error))
    file.seek(hashed)
    while rest := file.read(1 << 20):
        checksums.update([rest])
    found.sha256, found.xxh3_128 = checksums.sha256, checksums.xxh3_128
    found.problems += [f"{name}: {problem}" for problem in _order_problems(found.rows)]
    return found


def _examine(region: bytes, name: str, decode: bool, tombstones: Tombstones) -> tuple[str, list[str]]:
    """(identity, what is wrong with the sample); the identity is "" when the sample can't be read."""
    try:
        sample = parse_sample(region, name)
    except ShardError as error:
        return "", [str(error)]
    problems = list(sample_problems(sample, decode))
    if tombstones and _is_taken_down(sample, tombstones):
        problems.append("was taken down, and is still here")
    return sample.identity, [f"{name}: {sample.key}: {problem}" for problem in problems]


def _is_taken_down(sample: Sample, tombstones: Tombstones) -> bool:
    told = (sample.metadata.get(name) for name in ("sha256", "image_url", "page_url"))
    sha256, *addresses = (text if isinstance(text, str) else "" for text in told)
    return tombstones.person(sample.identity) or tombstones.content(sha256) or tombstones.address(*addresses)


def _order_problems(rows: Sequence[IndexRow]) -> Iterator[str]:
    seen: set[str] = set()
    for row in rows:
        if row.key in seen:
            yield f"{row.key} is there twice"
        seen.add(row.key)
    runs = Counter(identity for identity, _ in groupby(row.identity for row in rows if row.identity))
    for identity, count in sorted(runs.items()):
        if count > 1:
            yield f"the samples of identity {identity} are not adjacent"


def _strays(output: Output, index: Index) -> list[str]:
    known = {f"{FOLDER}/{shard.file}" for shard in index.shards} | {INDEX}
    found = (f"{FOLDER}/{name}" for name in output.names(FOLDER))
    return [f"{name}: is not in the index" for name in found if name not in known]


def _misplaced(index: Index) -> Iterator[str]:
    for identity, positions in index.identities.items():
        file, bucket = index.shards[index.shard_numbers[positions[0]]].file, bucket_of(identity, index.buckets)
        if place_of(file)[0] != bucket:
            yield f"{FOLDER}/{file}: identity {identity} belongs into bucket {bucket:05d}"


def _same_place(one: IndexRow, other: IndexRow) -> bool:
    same_identity = one.identity in (other.identity, "")
    return same_identity and (one.key, one.offset, one.num_bytes) == (other.key, other.offset, other.num_bytes)


def _place(row: IndexRow) -> str:
    return f"{row.key} of {row.identity} ({row.num_bytes:,} bytes at {row.offset:,})"
