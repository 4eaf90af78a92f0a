"""`python -m shards card DATASET [--check]`: make card and Croissant, or say which of their numbers are not true.

Both are made anew from ledger, index and settings and compared with what is there; nothing is written by a check.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from crawl.output import Output
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import read_ledger
from shards.card.croissant import CROISSANT
from shards.card.write import CARD, card_files, write_card
from shards.format.index import INDEX, read_index

_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_LONG = 60


def card_command(dataset: str, check: bool) -> int:
    """Exit code 0 when both are there and true."""
    output = Output(dataset)
    if not check:
        written = write_card(None, output)
        print(f"{dataset}: {CARD}, {CROISSANT} {'written' if written else 'are as they should be'}")
        return 0
    lines = differences(output)
    for line in lines:
        print(line)
    print(f"{dataset}: {len(lines)} differences" if lines else f"{dataset}: card and Croissant are true")
    return 1 if lines else 0


def differences(output: Output) -> list[str]:
    """Everything that card and Croissant of a folder say otherwise than ledger, index and settings; [] when nothing."""
    lines = [*_unlike(output)]
    for name, expected in card_files(None, output).items():
        if not output.exists(name):
            lines.append(f"{name}: is missing")
            continue
        found = output.read(name).decode(errors="replace")
        if found != expected:
            compare = _markdown if name == CARD else _json
            lines += [f"{name}: {line}" for line in compare(found, expected)] or [f"{name}: spaced otherwise"]
    return lines


def _unlike(output: Output) -> Iterator[str]:
    """Ledger and index must speak of the same photos."""
    kept, listed = read_ledger(output, ["status"])["status"].to_pylist().count("kept"), len(read_index(output))
    if kept != listed:
        yield f"{INDEX}: {listed} samples, {LEDGER} keeps {kept}"


def _markdown(found: str, expected: str) -> Iterator[str]:
    """Line by line."""
    theirs, ours = found.splitlines(), expected.splitlines()
    for kind, a, b, c, d in _opcodes(theirs, ours):
        if kind != "equal":
            yield from _block(theirs[a:b], ours[c:d])


def _block(theirs: list[str], ours: list[str]) -> Iterator[str]:
    """Of lines that differ in numbers only, the numbers."""
    for kind, a, b, c, d in _opcodes([_shape(x) for x in theirs], [_shape(x) for x in ours]):
        if kind == "equal":
            for there, right in zip(theirs[a:b], ours[c:d], strict=True):
                yield from _numbers(there, right)
        else:
            yield from (f"found {_short(line)!r}, not expected" for line in theirs[a:b] if line)
            yield from (f"expected {_short(line)!r}, not found" for line in ours[c:d] if line)


def _opcodes(theirs: list[str], ours: list[str]) -> list[tuple[str, int, int, int, int]]:
    matcher: difflib.SequenceMatcher[str] = difflib.SequenceMatcher(None, theirs, ours, autojunk=False)
    return list(matcher.get_opcodes())


def _numbers(found: str, expected: str) -> Iterator[str]:
    pairs = zip(_NUMBER.finditer(found), _NUMBER.finditer(expected), strict=True)
    for there, right in pairs:
        if there[0] != right[0]:
            yield f"found {there[0]}, expected {right[0]} in {_around(expected, right)!r}"


def _json(found: str, expected: str) -> Iterator[str]:
    """Value by value."""
    try:
        there = dict(_leaves(json.loads(found)))
    except ValueError:
        yield "is not valid JSON"
        return
    right = dict(_leaves(json.loads(expected)))
    for path in sorted(there.keys() | right.keys()):
        values = (there.get(path), right.get(path))
        if values[0] == values[1]:
            continue
        texts = [str(value) for value in values if isinstance(value, str)]
        if len(texts) == 2 and _shape(texts[0]) == _shape(texts[1]):
            yield from (f"{path}: {line}" for line in _numbers(*texts))
        else:
            yield f"{path}: found {_told(values[0])}, expected {_told(values[1])}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value); a member of a list goes by its `@id` where it has one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            name = inner.get("@id", number) if isinstance(inner, dict) else number
            yield from _leaves(inner, f"{path}[{name}]")
    else:
        yield path, value


def _shape(line: str) -> str:
    return _NUMBER.sub("#", line)


def _around(line: str, number: re.Match[str]) -> str:
    """The number with what stands about it."""
    start, end = max(0, number.start() - 30), min(len(line), number.end() + 30)
    return ("…" if start else "") + line[start:end] + ("…" if end < len(line) else "")


def _told(value: Any) -> str:
    return "nothing" if value is None else repr(_short(str(value)))


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
