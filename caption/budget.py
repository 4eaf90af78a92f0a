"""A limit on requests that holds for a dataset: over all its runs, over workers side by side, and over their deaths.

Each worker keeps a file of its own in `tables/spent/` that says how many requests it has taken from the budget, and
takes some more before it sends them. It counts what all files say after its own is written, so workers that take at
the same time may stop early but never together take too much. A killed worker has taken what it did not send.
"""

from __future__ import annotations

import threading

from crawl.output import Output

FOLDER = "tables/spent"


class Budget:
    """Requests that may still be sent. Safe to use from threads."""

    def __init__(self, output: Output, max_requests: int, worker: str, at_once: int) -> None:
        """`worker`: a name that no other worker bears. `at_once`: how many to take from the common budget at a time."""
        self._output, self._max, self._at_once = output, max_requests, at_once
        self._name = f"{worker}.txt"
        self._taken = self._in_hand = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more request may be sent; if so, it counts as sent."""
        with self._lock:
            if not self._in_hand:
                self._take_more()
            allowed = self._in_hand > 0
            self._in_hand -= allowed
            return allowed

    def give_back(self) -> None:
        """What was taken and is not needed."""
        with self._lock:
            if self._in_hand:
                self._write(self._taken - self._in_hand)
                self._in_hand = 0

    def _take_more(self) -> None:
        before = self._taken
        self._write(before + self._at_once)
        over = max(spent(self._output) - self._max, 0)
        if over:
            self._write(max(before + self._at_once - over, before))
        self._in_hand = self._taken - before

    def _write(self, taken: int) -> None:
        self._output.write(f"{FOLDER}/{self._name}", str(taken).encode())
        self._taken = taken


def spent(output: Output) -> int:
    """Requests that were sent for this dataset, or were about to be by a worker that died."""
    return sum(int(output.read(f"{FOLDER}/{name}")) for name in output.names(FOLDER))
