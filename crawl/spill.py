"""Records put into numbered heaps on local disk: what must be sorted and is more than memory should hold.

Knows nothing of what the records mean.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType
from typing import Any

_HELD = 10_000
"""Records in memory at most."""


class Spill:
    """As many heaps as are asked for; gone with the block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="personae-")
        self._held: dict[int, list[str]] = defaultdict(list)
        self._count = 0

    def put(self, heap: int, record: dict[str, Any]) -> None:
        """Raises OSError when the disk is full."""
        self._held[heap].append(json.dumps(record) + "\n")
        self._count += 1
        if self._count >= _HELD:
            self._flush()

    def take(self, heap: int) -> Iterator[dict[str, Any]]:
        """The heap's records, in the order they were put."""
        self._flush()
        if os.path.exists(self._path(heap)):
            with open(self._path(heap), encoding="ascii") as file:
                yield from map(json.loads, file)

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._folder.cleanup()

    def _flush(self) -> None:
        for heap, lines in self._held.items():
            with open(self._path(heap), "a", encoding="ascii") as file:
                file.writelines(lines)
        self._held.clear()
        self._count = 0

    def _path(self, heap: int) -> str:
        return f"{self._folder.name}/{heap}"
