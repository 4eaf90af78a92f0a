"""A photo that kills the process that decodes it costs one row, not the job.

A worker writes down which photo it holds. When it died over one, the bucket's next run works in a child
process; a photo that kills the child twice is rejected as `crash`. Only deaths of the child count: a
worker killed from outside, however often, never costs a photo.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any

from crawl.output import Output

_STRIKES = 2
_state: dict[str, Any] = {}


class Journal:
    """Which photo of a (stage, bucket) is in work. On local disk: beside the tables, or this machine's own."""

    def __init__(self, output: Output, stage: str, bucket: int) -> None:
        folder = output.path("tables") if output.is_local else _own_folder(output.url)
        self._path = os.path.join(folder, f".{stage}-{bucket:05d}.holds")
        os.makedirs(folder, exist_ok=True)
        self.somebody_died = os.path.exists(self._path) and os.path.getsize(self._path) > 0
        self._file = open(self._path, "a+")  # noqa: SIM115 — closed by __exit__

    def hold(self, key: str) -> None:
        """Written to the kernel before the photo is touched: it outlives this process, which is all it must."""
        self._file.truncate(0)
        self._file.write(key)
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Whatever way the block ended, the process lives: nothing to suspect."""
        self._file.close()
        os.unlink(self._path)


class OneAtATime:
    """Runs `work(state, *arguments)` in a child that is replaced when it dies; `state = start(*settings)`."""

    def __init__(self, start: Callable[..., Any], work: Callable[..., Any], *settings: Any) -> None:
        self._start, self._work, self._settings = start, work, settings
        self._pool: ProcessPoolExecutor | None = None

    def run(self, *arguments: Any) -> Any | None:
        """The work's result, or None when it killed the child twice."""
        for _ in range(_STRIKES):
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn"), _remember, (self._start, self._settings)
                )
            try:
                return self._pool.submit(_call, self._work, arguments).result()
            except BrokenProcessPool:
                self._close()
        return None

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> OneAtATime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()


def _remember(start: Callable[..., Any], settings: tuple[Any, ...]) -> None:
    _state["it"] = start(*settings)


def _call(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return work(_state["it"], *arguments)


def _own_folder(url: str) -> str:
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), f"personae-{os.getuid()}-{name}")
