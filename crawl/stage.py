"""What a step of the build is: a named, pure function of one identity bucket's inputs.

The same steps run one after another in `python -m crawl|filter|caption` and side by side on Ray in
`python -m shards build`; the steps themselves know of neither.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from crawl.tables import Tables
from crawl.timing import Timing, note

Tick = Callable[[str, int], None]
"""Told (stage name, photos done since the last call), or (`fetch: REASON`, how many were refused for it)."""


class Stage(Protocol):
    """One step over buckets. Its output is `tables/NAME/BUCKET.parquet`, written whole or not at all."""

    name: str

    def fingerprint(self, bucket: int) -> str:
        """Hash of all that the bucket's output depends on: version, settings, the upstream table's fingerprint."""
        ...

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        """Make the bucket's table, stamped with `fingerprint`."""
        ...


def run_pending(stages: Iterable[Stage], bucket: int, tables: Tables, tick: Tick) -> list[str]:
    """Run, in order, the steps of this bucket that are not done or no longer true; returns their names."""
    done = []
    for stage in stages:
        fingerprint = stage.fingerprint(bucket)
        if tables.fingerprint(stage.name, bucket) != fingerprint:
            _run_timed(stage, bucket, fingerprint, tables, tick)
            done.append(stage.name)
    return done


def _run_timed(stage: Stage, bucket: int, fingerprint: str, tables: Tables, tick: Tick) -> None:
    photos, began = Counter[str](), time.monotonic()

    def count(name: str, done: int) -> None:
        photos[name] += done
        tick(name, done)

    stage.run(bucket, fingerprint, count)
    if photos[stage.name]:
        note(tables.output, bucket, stage.name, Timing(photos[stage.name], time.monotonic() - began))


class BucketWork:
    """These steps, as work on one bucket at a time."""

    def __init__(self, stages: Sequence[Stage], tables: Tables) -> None:
        self._stages, self._tables = stages, tables

    def __call__(self, bucket: int, tick: Tick) -> None:
        run_pending(self._stages, bucket, self._tables, tick)


def pending(stages: Sequence[Stage], buckets: Iterable[int], tables: Tables) -> list[int]:
    """The buckets in which at least one of these steps has work to do."""
    return [
        bucket
        for bucket in buckets
        if any(tables.fingerprint(stage.name, bucket) != stage.fingerprint(bucket) for stage in stages)
    ]
