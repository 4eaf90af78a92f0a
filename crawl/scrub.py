"""Taking words out of the working tables: every row, line or record that mentions one of them goes, nothing else.

A word is a whole value: a photo's key, an address, a hash, a name. Works on any table, also on those of stages that
are not there yet. Each file is rewritten whole or not at all. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crawl.output import Output

_BATCH = 64
_LINES = (".journal", ".todo")
Words = Collection[str]


def mentions(value: Any, words: Words) -> bool:
    """Whether one of the words is this value, or lies anywhere in it."""
    if isinstance(value, str):
        return value in words
    if isinstance(value, dict):
        return any(mentions(inner, words) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(mentions(inner, words) for inner in value)
    return False


def scrub_tables(output: Output, words: Words, leave: Collection[str] = ()) -> None:
    """Every file below `tables/`, but for the folders in `leave`."""
    for folder in output.folders("tables"):
        if folder not in leave:
            scrub_folder(output, f"tables/{folder}", words)
    if output.is_local:
        for name in os.listdir(output.path("tables")):
            if name.endswith(".holds") and output.read(f"tables/{name}").decode(errors="replace") in words:
                output.remove(f"tables/{name}")


def scrub_folder(output: Output, folder: str, words: Words) -> None:
    """Every table, list and journal of one folder."""
    for name in output.names(folder):
        path = f"{folder}/{name}"
        if name.endswith(".parquet"):
            scrub_parquet(output, path, words)
        elif name.endswith(".json"):
            _scrub_list(output, path, words)
        elif name.endswith(_LINES):
            output.write(path, b"".join(_kept_lines(output, path, words)))


def scrub_parquet(output: Output, name: str, words: Words) -> bool:
    """Whether there was something to take out. A table that is left empty stays, with its schema and stamp."""
    with output.open(name) as file, contextlib.closing(pq.ParquetFile(file)) as parquet:
        keep = [not mentions(row, words) for row in _texts(parquet)]
        if all(keep):
            return False
        flags = iter(keep)
        rewrite(output, name, parquet, lambda batch: batch.filter(pa.array([next(flags) for _ in range(len(batch))])))
    return True


def keep_rows(output: Output, name: str, keys: Collection[str]) -> None:
    """Only the rows of a table with these keys stay."""
    with output.open(name) as file, contextlib.closing(pq.ParquetFile(file)) as parquet:
        there = parquet.read(columns=["key"]).column("key").to_pylist()
        if not set(there) <= set(keys):
            kept = pa.array(sorted(keys), pa.string())
            rewrite(output, name, parquet, lambda batch: batch.filter(pc.is_in(batch.column("key"), kept)))


def restamp(output: Output, name: str, key: bytes, value: str) -> None:
    """Change one entry of a table's metadata, and nothing else."""
    with output.open(name) as file, contextlib.closing(pq.ParquetFile(file)) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
        if metadata.get(key) != value.encode():
            rewrite(output, name, parquet, lambda batch: batch, {**metadata, key: value.encode()})


def rewrite(
    output: Output,
    name: str,
    parquet: pq.ParquetFile,
    change: Callable[[pa.RecordBatch], pa.RecordBatch],
    metadata: dict[bytes, bytes] | None = None,
) -> None:
    """The table again, batch by batch, in its place."""
    schema = parquet.schema_arrow if metadata is None else parquet.schema_arrow.with_metadata(metadata)
    with output.create(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in parquet.iter_batches(batch_size=_BATCH):
            changed = change(batch)
            if len(changed):
                writer.write_batch(pa.RecordBatch.from_arrays(changed.columns, schema=schema))


def _texts(parquet: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    """Rows with their texts alone: pictures and embeddings are not read."""
    columns = (parquet.schema.column(number) for number in range(len(parquet.schema)))
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY" and column.logical_type.type]
    texts = [path for path in texts if path]
    for batch in parquet.iter_batches(batch_size=_BATCH * 16, columns=texts):
        yield from batch.to_pylist()


def _scrub_list(output: Output, name: str, words: Words) -> None:
    records = json.loads(output.read(name))
    if isinstance(records, list):
        kept = [record for record in records if not mentions(record, words)]
        if not kept:
            output.remove(name)
        elif len(kept) < len(records):
            output.write(name, json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _kept_lines(output: Output, name: str, words: Words) -> Iterator[bytes]:
    """A torn line is no record, and goes too."""
    file: IO[bytes]
    with output.open(name) as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if not mentions(record, words):
                yield line
