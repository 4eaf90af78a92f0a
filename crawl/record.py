"""Rows as plain dicts and lists, and back: what JSON and arrow take.

Light on purpose: the process that fetches starts once for each host. Knows nothing of files.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

Row = TypeVar("Row")
_PLAIN = (str, int, float, bool, bytes)


def to_record(value: Any) -> Any:
    """A row as plain dicts and lists, for arrow or JSON."""
    kind: Any = type(value)
    if kind is tuple or kind is list:
        return [to_record(v) for v in value]
    names = _names(kind)
    return value if names is None else {name: to_record(getattr(value, name)) for name in names}


def from_record(row_type: type[Row], record: dict[str, Any]) -> Row:
    """The inverse of `to_record`."""
    return typing.cast(Row, from_value(row_type, record))


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """Fields of a dataclass, None for any other type."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


@functools.cache
def _hints(row_type: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(row_type)
    return tuple((f.name, hints[f.name]) for f in dataclasses.fields(row_type))


def from_value(hint: Any, value: Any) -> Any:
    if value is None or hint in _PLAIN:
        return value
    if dataclasses.is_dataclass(hint):
        row_type = typing.cast(type, hint)  # a field that an older table lacks takes its default
        return row_type(**{n: from_value(h, value[n]) for n, h in _hints(row_type) if n in value})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return from_value(not_none(arguments), value)
    if origin is tuple:
        return tuple(from_value(arguments[0], v) for v in value)
    import numpy as np

    return np.asarray(value, dtype=np.float32)


def not_none(arguments: tuple[Any, ...]) -> Any:
    (hint,) = (a for a in arguments if a is not type(None))
    return hint
