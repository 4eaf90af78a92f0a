"""Tars from which samples are taken out: the bytes of what stays are copied, neighbours stay neighbours.

Works on the dataset's own tars and on those of its features. Knows nothing of what is in a sample.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping

from crawl.output import Output
from shards.format.checksum import Both
from shards.format.index import IndexRow, ShardRow
from shards.format.tar import END, regions


def keys_in(output: Output, name: str) -> list[str]:
    """Of the samples of a tar, in order. Raises ShardError for one that is torn."""
    with output.open(name) as file:
        return [key for key, _, _ in regions(file, file.seek(0, io.SEEK_END), output.path(name))]


def filtered(
    output: Output, name: str, file_name: str, stays: Callable[[str], bool], owners: Mapping[str, str]
) -> tuple[ShardRow, list[IndexRow]] | None:
    """Write a tar again with the samples that stay; removes it and returns None when none does.

    `owners`: key → identity. Raises ShardError for a torn tar.
    """
    checksums, at, rows = Both(), 0, []
    kept = [key for key in keys_in(output, name) if stays(key)]
    if not kept:
        output.remove(name)
        return None
    with output.open(name) as source, output.create(name) as file:
        for key, offset, num_bytes in regions(source, source.seek(0, io.SEEK_END), output.path(name)):
            if stays(key):
                source.seek(offset)
                region = source.read(num_bytes)
                file.write(region)
                checksums.update([region])
                rows.append(IndexRow(key, owners[key], file_name, at, num_bytes))
                at += num_bytes
        file.write(END)
        checksums.update([END])
    return ShardRow(file_name, at + len(END), checksums.sha256, len(rows), checksums.xxh3_128), rows


def holds_any(output: Output, name: str, keys: Collection[str]) -> bool:
    return output.exists(name) and any(key in keys for key in keys_in(output, name))
