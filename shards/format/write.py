"""Writing one identity bucket's shards: `shards/BBBBB-NNN.tar`, the same samples always as the same bytes.

Memory holds one sample. A shard appears under its name complete or not at all. Knows nothing of where
samples come from; the index of the whole dataset is `shards.format.index`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import IO

from crawl.output import Output
from shards.format.checksum import Both
from shards.format.index import FOLDER, SHARD_NAME, IndexRow, ShardRow, shard_name
from shards.format.sample import Sample
from shards.format.tar import END, parts

_WRITE_BACK_BYTES = 8 << 20


def plan_shards(sizes: list[tuple[str, int]], max_bytes: int) -> list[int]:
    """The shard number of each sample, given (identity, tar bytes) in order.

    A shard is closed before it would exceed `max_bytes`: between identities when the next one fits into a
    shard of its own, else (it starts a shard and is chunked) between samples. One sample larger than
    `max_bytes` gets a shard of its own.
    """
    room = max_bytes - len(END)
    plan: list[int] = []
    number = used = 0
    for _, group in groupby(sizes, key=itemgetter(0)):
        samples = [num_bytes for _, num_bytes in group]
        if used and used + sum(samples) > room:
            number, used = number + 1, 0
        for num_bytes in samples:
            if used and used + num_bytes > room:
                number, used = number + 1, 0
            plan.append(number)
            used += num_bytes
    return plan


def write_bucket(
    output: Output, bucket: int, samples: Iterable[Sample], sizes: list[tuple[str, int]], max_bytes: int
) -> tuple[list[ShardRow], list[IndexRow]]:
    """Write all shards of a bucket, then remove those that an earlier build left beyond them.

    `samples` come in order of (identity, key); `sizes` are their (identity, `tar.sample_size`).
    Raises OSError naming the file when it can't be written, ValueError for a sample no reader would take.
    """
    shards: list[ShardRow] = []
    index: list[IndexRow] = []
    planned = zip(plan_shards(sizes, max_bytes), sizes, _in_order(samples), strict=True)
    for number, group in groupby(planned, key=itemgetter(0)):
        shard, rows = _write_shard(output, shard_name(bucket, number), ((size, s) for _, size, s in group))
        shards.append(shard)
        index += rows
    _remove_beyond(output, bucket, len(shards))
    return shards, index


def _write_shard(
    output: Output, name: str, samples: Iterable[tuple[tuple[str, int], Sample]]
) -> tuple[ShardRow, list[IndexRow]]:
    checksums, at, rows, begun = Both(), 0, [], 0
    with output.create(f"{FOLDER}/{name}") as file:
        for planned, sample in samples:
            packed = parts(sample)
            num_bytes = sum(map(len, packed))
            assert planned == (sample.identity, num_bytes), f"{sample.key} is not the sample that was planned"
            file.writelines(packed)
            checksums.update(packed)
            rows.append(IndexRow(sample.key, sample.identity, name, at, num_bytes))
            at += num_bytes
            if at - begun >= _WRITE_BACK_BYTES:
                begun = _write_back(file, begun, at)
        file.write(END)
        checksums.update([END])
    return ShardRow(name, at + len(END), checksums.sha256, len(rows), checksums.xxh3_128), rows


def _write_back(file: IO[bytes], start: int, end: int) -> int:
    """Let Linux begin to store these bytes while the next are hashed: the fsync at the end finds little left."""
    file.flush()
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)
    return end


def _in_order(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Checks what adjacency and determinism rest on, and that each sample says the same of itself everywhere."""
    before = ("", "")
    for sample in samples:
        place = (sample.identity, sample.key)
        assert place > before, f"{sample.key}: samples must come in order of identity and key, each once"
        assert place == (sample.metadata["identity"], sample.metadata["key"]), f"{sample.key}: contradicts its JSON"
        before = place
        yield sample


def _remove_beyond(output: Output, bucket: int, count: int) -> None:
    for name in output.names(FOLDER):
        match = SHARD_NAME.fullmatch(name)
        if match and int(match[1]) == bucket and int(match[2]) >= count:
            output.remove(f"{FOLDER}/{name}")
