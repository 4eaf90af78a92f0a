"""Batches made ahead of the loop, in a thread. Knows nothing of what is in them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

import torch

from train.data.batch import Batch
from train.data.source import BatchSource

_POLL_S = 0.1
Wanted = tuple[int, range]
"""Step, and rows of its whole batch."""


class Loader(Iterator[Batch]):
    """The wanted batches in order, at most `ahead` of them waiting; 0: made when they are asked for, in no thread.

    What goes wrong in the thread is raised where its batch is asked for. To be closed, or used in `with`.
    """

    def __init__(self, source: BatchSource, wanted: Iterable[Wanted], batch_size: int, ahead: int) -> None:
        self._source, self._wanted, self._batch_size = source, iter(wanted), batch_size
        self.wait_s = 0.0
        """Time spent in `next`, in all: what the loop waited for data."""
        self._made: queue.Queue[Batch | BaseException] = queue.Queue(max(1, ahead))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True) if ahead else None
        if self._thread is not None:
            self._thread.start()

    def __next__(self) -> Batch:
        began = time.perf_counter()
        try:
            return self._next()
        finally:
            self.wait_s += time.perf_counter() - began

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread: at most the batch in work is finished."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _next(self) -> Batch:
        if self._closed.is_set():
            raise StopIteration
        if self._thread is None:
            return self._make(next(self._wanted))
        made = self._made.get()
        if isinstance(made, Batch):
            return made
        self.close()
        raise made

    def _work(self) -> None:
        try:
            for wanted in self._wanted:
                if not self._put(self._make(wanted)):
                    return
            self._put(StopIteration())
        except BaseException as error:
            self._put(error)

    def _put(self, made: Batch | BaseException) -> bool:
        """Waits for room; False when nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self._made.put(made, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    @torch.no_grad()
    def _make(self, wanted: Wanted) -> Batch:
        step, rows = wanted
        return self._source.batch(step, rows, self._batch_size)
