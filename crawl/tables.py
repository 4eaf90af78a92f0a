"""Parquet tables of what each stage decided, one file a (stage, bucket), and the arrow schema of a row type.

A table that exists is complete. Its metadata holds a fingerprint of everything it was made from, so
"is this step done?" is one comparison. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crawl.output import Output
from crawl.photo import Rejection
from crawl.record import from_record as from_record
from crawl.record import from_value, not_none
from crawl.record import to_record as to_record

Row = TypeVar("Row")
_CHUNK = 64
_FINGERPRINT = b"personae.fingerprint"
_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
}


@dataclass(frozen=True, slots=True)
class Entry(Generic[Row]):
    """What a stage said of one key: the row that goes on, or why it does not (crawl gives both)."""

    key: str
    row: Row | None
    rejection: Rejection | None = None


class Tables:
    """The `tables/` of a dataset folder."""

    def __init__(self, output: Output) -> None:
        self._output = output

    @property
    def output(self) -> Output:
        return self._output

    def fingerprint(self, stage: str, bucket: int) -> str | None:
        """The fingerprint of a finished table, None when there is none."""
        name = _name(stage, bucket)
        if not self._output.exists(name):
            return None
        with self._output.open(name) as file:
            metadata = pq.read_schema(file).metadata or {}
        return typing.cast(bytes, metadata.get(_FINGERPRINT, b"")).decode()

    def write(
        self, stage: str, bucket: int, row_type: type[Row], entries: Iterable[Entry[Row]], fingerprint: str
    ) -> None:
        """Write a whole table, atomically, holding at most 64 rows in memory."""
        schema = _entry_schema(row_type).with_metadata({_FINGERPRINT: fingerprint.encode()})
        with (
            self._output.create(_name(stage, bucket)) as file,
            pq.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for chunk in _chunks(entries):
                writer.write_batch(pa.RecordBatch.from_pylist([_to_dict(e) for e in chunk], schema=schema))

    def read(self, stage: str, bucket: int, row_type: type[Row]) -> Iterator[Entry[Row]]:
        """Entries in the order they were written; [] when the stage has not run."""
        name = _name(stage, bucket)
        if not self._output.exists(name):
            return
        with self._output.open(name) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_CHUNK):
                for row in batch.to_pylist():
                    yield Entry(row["key"], from_value(row_type, row["row"]), from_value(Rejection, row["rejection"]))

    def count(self, stage: str, bucket: int) -> int:
        """Entries in a table, 0 when the stage has not run."""
        name = _name(stage, bucket)
        if not self._output.exists(name):
            return 0
        with self._output.open(name) as file:
            return int(pq.read_metadata(file).num_rows)

    def rejections(self, stage: str, bucket: int) -> dict[str, Rejection | None]:
        """Per key what the stage said, without reading the rows themselves."""
        name = _name(stage, bucket)
        if not self._output.exists(name):
            return {}
        with self._output.open(name) as file:
            table = pq.ParquetFile(file).read(columns=["key", "rejection"])
        keys, rejections = table.column("key").to_pylist(), table.column("rejection").to_pylist()
        return {k: from_value(Rejection, r) for k, r in zip(keys, rejections, strict=True)}


def table_numbers(output: Output, stage: str) -> list[int]:
    """Of a stage's finished tables."""
    names = (name.partition(".") for name in output.names(f"tables/{stage}"))
    return [int(number) for number, _, suffix in names if suffix == "parquet" and number.isdigit()]


def fingerprint(*parts: Any) -> str:
    """Hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@functools.cache
def arrow_schema(row_type: type) -> pa.Schema:
    """Arrow schema of a dataclass: scalars, tuples, arrays (as float32 lists), nested dataclasses, `X | None`."""
    hints = typing.get_type_hints(row_type)
    return pa.schema([pa.field(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(row_type)])


def _name(stage: str, bucket: int) -> str:
    return f"tables/{stage}/{bucket:05d}.parquet"


def _to_dict(entry: Entry[Any]) -> dict[str, Any]:
    return {"key": entry.key, "row": to_record(entry.row), "rejection": to_record(entry.rejection)}


def _entry_schema(row_type: type) -> pa.Schema:
    return pa.schema(
        [
            pa.field("key", pa.string()),
            pa.field("row", _arrow_type(row_type)),
            pa.field("rejection", _arrow_type(Rejection)),
        ]
    )


def _arrow_type(hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(arrow_schema(typing.cast(type, hint))))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _arrow_type(not_none(arguments))
    if origin is tuple:
        return pa.list_(_arrow_type(arguments[0]))
    if np.ndarray in (origin, hint):
        return pa.list_(pa.float32())
    raise TypeError(f"no arrow type for {hint}")


def _chunks(entries: Iterable[Entry[Row]]) -> Iterator[list[Entry[Row]]]:
    chunk: list[Entry[Row]] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
