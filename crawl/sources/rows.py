"""Rows of a CSV or Parquet file, one at a time, as text by field, each with its place in the file.

A row that cannot be read is said so and the next one is read. Knows nothing of what the fields mean.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from crawl.errors import InputError
from crawl.sources.listing import Unlisted, unlisted

_BATCH = 1024
_PARQUET = b"PAR1"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `values` holds every field asked for, stripped, "" where the file has nothing."""

    where: str
    """`line 7`, `lines 7-9` in CSV (the header is line 1); `row 7` in Parquet, from 1."""
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds which field."""

    aliases: Mapping[str, Sequence[str]]
    """field → column names to look for, the first that is there wins; without regard to case."""
    required: Sequence[str]
    named: Mapping[str, str]
    """field → the column's name as the user gives it; it must be there."""
    setting: str
    """Where the user names columns, such as `crawl.columns`: for the error."""

    def places(self, path: str, header: Sequence[str]) -> dict[str, int]:
        """field → index of its column. Raises InputError naming the file for a column that is not there."""
        there: dict[str, int] = {}
        for place, name in enumerate(header):
            there.setdefault(name.strip().lower(), place)
        places: dict[str, int] = {}
        for field, aliases in self.aliases.items():
            wanted = [self.named[field]] if field in self.named else aliases
            found = next((there[name.lower()] for name in wanted if name.lower() in there), None)
            if found is not None:
                places[field] = found
            elif field in self.named or field in self.required:
                raise InputError(f"{path}: {self._missing(field, wanted, there)}")
        return places

    def _missing(self, field: str, wanted: Sequence[str], there: Mapping[str, int]) -> str:
        close = difflib.get_close_matches(wanted[0].lower(), there, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        columns = ", ".join(list(there)[:20]) or "none"
        return (
            f"no column for `{field}`: looked for {', '.join(wanted)}, the file has {columns}{hint}; "
            f"name it in {self.setting}.{field}"
        )


def rows(path: str, columns: Columns, delimiter: str = ",") -> Iterator[Row | Unlisted]:
    """Every row of the file in order, holding at most 1,024 in memory.

    A file that starts as Parquet does is one, anything else is CSV in UTF-8 with a header. Raises InputError
    naming the file when it cannot be opened, or lacks a column.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_PARQUET))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return _parquet(path, columns) if start == _PARQUET else _csv(path, columns, delimiter)


def _csv(path: str, columns: Columns, delimiter: str) -> Iterator[Row | Unlisted]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise InputError(f"{path}: line 1: {error}") from None
        places = columns.places(path, header)
        while True:
            first = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                yield unlisted("", _lines(first, reader.line_num), "malformed", detail=str(error))
                continue
            if fields is None:
                return
            if fields:
                yield _csv_row(_lines(first, reader.line_num), fields, header, places)


def _csv_row(where: str, fields: list[str], header: list[str], places: Mapping[str, int]) -> Row | Unlisted:
    if len(fields) != len(header) and any(f.strip() for f in fields[len(header) :]):
        return unlisted("", where, "malformed", detail=f"{len(fields)} fields, the header has {len(header)}")
    values = {field: fields[place].strip() if place < len(fields) else "" for field, place in places.items()}
    if not all(_is_text(value) for value in values.values()):
        return unlisted("", where, "encoding")
    return Row(where, values)


def _parquet(path: str, columns: Columns) -> Iterator[Row | Unlisted]:
    try:
        with pq.ParquetFile(path) as file:
            header = file.schema_arrow.names
            names = {field: header[place] for field, place in columns.places(path, header).items()}
            for field, name in names.items():
                _check_type(path, field, file.schema_arrow.field(name))
            number = 0
            for batch in file.iter_batches(_BATCH, columns=sorted(set(names.values()))):
                for record in batch.to_pylist():
                    number += 1
                    values = {field: _as_text(record[name]) for field, name in names.items()}
                    yield Row(f"row {number}", values)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _check_type(path: str, field: str, column: pa.Field) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise InputError(f"{path}: column {column.name} for `{field}` holds {column.type}, not text")


def _as_text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _is_text(value: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in value)


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first >= last else f"lines {first}-{last}"
