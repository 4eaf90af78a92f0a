"""A child process from the parent's side: start it, hear its lines, end it, and say what became of it.

Knows nothing of what the child does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_ROOT = str(Path(__file__).resolve().parents[2])
_TOLD_BYTES = 4000


class ChildKilled(RuntimeError):
    """The child was ended by a signal that was not ours: a crash, or the system short of memory."""


class ChildFailed(RuntimeError):
    """A fault of ours in the child, with its own traceback."""


class Child:
    """`python -m crawl.fetching.child` with a job. It ends with the block, whatever happens, and with this process."""

    def __init__(self, job: dict[str, Any], limit_s: float | None = None) -> None:
        """After `limit_s` it is killed: `late` says so."""
        self.late = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crawl.fetching.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the parent's; the child goes with it
        )
        self._watchdog = threading.Timer(limit_s, self._kill_late) if limit_s is not None else None
        if self._watchdog is not None:
            self._watchdog.daemon = True
            self._watchdog.start()
        self.say(job | {"begun_at": time.monotonic()})  # by the clock of the whole machine

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, record: dict[str, Any]) -> None:
        """A line to the child; nothing when it is gone, which `heard` tells."""
        try:
            self._stdin.write(json.dumps(record).encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            pass

    def heard(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What the child says, until it ends: (record, body).

        Raises OSError for the child's own (disk full), ChildKilled, ChildFailed.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):  # killed while it spoke
                break
            record: dict[str, Any] = json.loads(line)
            if "errno" in record:
                raise OSError(record["errno"], record["strerror"], record["filename"])
            yield record, self._process.stdout.read(record.get("num_bytes", 0))
        code = self._process.wait()
        if code < 0 and not self.late:
            raise ChildKilled(f"the fetching process was ended by signal {-code}")
        if code > 0:
            raise ChildFailed(f"the fetching process failed:\n{self._told()}")

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            _close(pipe)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _kill_late(self) -> None:
        self.late = True
        self._process.kill()

    def _told(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TOLD_BYTES))
        return self._errors.read().decode("utf-8", "replace")


def _close(file: IO[bytes] | None) -> None:
    if file is not None:
        with contextlib.suppress(BrokenPipeError):  # unsent words to a child that is gone
            file.close()
