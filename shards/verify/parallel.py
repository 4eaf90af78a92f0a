"""Shards checked side by side: in this process, in several of this machine, or on a Ray cluster.

A local Ray takes ten seconds and more to start, processes take none, so Ray is for clusters that run already.
Knows nothing of what is checked.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from shards.format.index import IndexRow, ShardRow

Found = TypeVar("Found")
Work = tuple[ShardRow, list[IndexRow]]
SideBySide = Callable[[Callable[..., list[str]], Sequence[Work], int], Iterator[list[str]]]
"""`side_by_side` or `on_ray`."""
_START_S = 1.0
"""Less work than this is done sooner alone."""
_BYTES_PER_S = {False: 600e6, True: 15e6}
"""By whether pictures are decoded: benchmarks/verify_speed.py."""


def side_by_side(check: Callable[..., Found], work: Sequence[Work], workers: int) -> Iterator[Found]:
    """`check(shard, rows)` of each, in order."""
    workers = min(workers, len(work))
    if workers <= 1:
        yield from (check(*one) for one in work)
        return
    largest_first = sorted(range(len(work)), key=lambda number: -work[number][0].num_bytes)
    with ProcessPoolExecutor(workers, multiprocessing.get_context(_start_method())) as pool:
        futures = {number: pool.submit(check, *work[number]) for number in largest_first}
        yield from (futures[number].result() for number in range(len(work)))


def _start_method() -> str:
    """A fork starts at once, and is safe where there are no other threads; else all is imported again, for seconds."""
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def worth(work: Sequence[Work], decode: bool) -> int:
    """How many processes pay for these shards."""
    seconds = sum(shard.num_bytes for shard, _ in work) / _BYTES_PER_S[decode]
    return 1 if seconds < 2 * _START_S else os.cpu_count() or 1


def on_ray(check: Callable[..., Found], work: Sequence[Work], workers: int) -> Iterator[Found]:
    """The same on the Ray that this process is connected to; the cluster decides how many at a time."""
    import ray

    def check_one(shard: ShardRow, rows: list[IndexRow]) -> Found:
        return check(shard, rows)

    remote = ray.remote(num_cpus=1, max_retries=3)(check_one)
    waiting = [remote.remote(*one) for one in work]
    yield from (ray.get(one) for one in waiting)
