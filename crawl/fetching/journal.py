"""The journal of one host: a JSON line for each target that is done, written at once and never changed.

What a killed process leaves is every line it finished and at most one torn one, which is skipped. One
process at a time may append. Knows nothing of what a line says.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Journal:
    """Open for appending. Waits until no other process has it open."""

    def __init__(self, path: str) -> None:
        self._descriptor = _locked(path)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._write(b"\n")  # after a torn line

    def append(self, record: dict[str, Any]) -> None:
        """Raises OSError when the disk is full."""
        self._write(_encode(record).encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, line: bytes) -> None:
        written = os.write(self._descriptor, line)
        if written < len(line):  # the disk is full: the second write says so
            os.write(self._descriptor, line[written:])


def read_journal(path: str) -> Iterator[dict[str, Any]]:
    """The records, in the order they were written; none when there is no such file."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:  # torn
                continue


def _locked(path: str) -> int:
    """Opened and locked, and still the file of that name: whoever had it before may have removed it meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
