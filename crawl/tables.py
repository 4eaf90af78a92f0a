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
                    yield Entry(row["key"], _from_value(row_type, row["row"]), _from_value(Rejection, row["rejection"]))

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
        return {k: _from_value(Rejection, r) for k, r in zip(keys, rejections, strict=True)}


def fingerprint(*parts: Any) -> str:
    """Hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@functools.cache
def arrow_schema(row_type: type) -> pa.Schema:
    """Arrow schema of a dataclass: scalars, tuples, arrays (as float32 lists), nested dataclasses, `X | None`."""
    hints = typing.get_type_hints(row_type)
    return pa.schema([pa.field(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(row_type)])


def to_record(value: Any) -> Any:
    """A row as plain dicts and lists, for arrow or JSON."""
    kind: Any = type(value)
    if kind is tuple or kind is list:
        return [to_record(v) for v in value]
    names = _names(kind)
    return value if names is None else {name: to_record(getattr(value, name)) for name in names}


def from_record(row_type: type[Row], record: dict[str, Any]) -> Row:
    """The inverse of `to_record`."""
    return typing.cast(Row, _from_value(row_type, record))


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
        return _arrow_type(_not_none(arguments))
    if origin is tuple:
        return pa.list_(_arrow_type(arguments[0]))
    if np.ndarray in (origin, hint):
        return pa.list_(pa.float32())
    raise TypeError(f"no arrow type for {hint}")


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """Fields of a dataclass, None for any other type."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


@functools.cache
def _hints(row_type: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(row_type)
    return tuple((f.name, hints[f.name]) for f in dataclasses.fields(row_type))


def _from_value(hint: Any, value: Any) -> Any:
    if value is None or hint in _SCALARS:
        return value
    if dataclasses.is_dataclass(hint):
        row_type = typing.cast(type, hint)  # a field that an older table lacks takes its default
        return row_type(**{n: _from_value(h, value[n]) for n, h in _hints(row_type) if n in value})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _from_value(_not_none(arguments), value)
    if origin is tuple:
        return tuple(_from_value(arguments[0], v) for v in value)
    return np.asarray(value, dtype=np.float32)


def _not_none(arguments: tuple[Any, ...]) -> Any:
    (hint,) = (a for a in arguments if a is not type(None))
    return hint


def _chunks(entries: Iterable[Entry[Row]]) -> Iterator[list[Entry[Row]]]:
    chunk: list[Entry[Row]] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
