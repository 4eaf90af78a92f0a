"""Which tables of a build are up to date, and how they stay so when rows are taken out of them.

A table is known to be true by a stamp that follows from the stamps before it. After a takedown the stamps of what was
true before are set to what the build will ask for, so that it finds nothing to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from caption.stage import EFFORTS
from crawl.collect import PEOPLE, CrawlStage
from crawl.errors import InputError
from crawl.output import Output
from crawl.scrub import restamp
from crawl.stage import Stage
from crawl.tables import Tables, table_numbers
from crawl.wanted import TARGETS, listed_people, targets_stamp
from filter.decide import IDENTITIES, VerifyStage
from filter.doubles import find_doubles
from filter.scan import ScanStage
from shards.config import BuildRun
from shards.steps.stages import second_half
from shards.steps.whole import is_whole, whole_stamp

_STAMP = b"personae.fingerprint"
_BESIDE = {"crawl": (PEOPLE,), "verify": (IDENTITIES,), "caption": (EFFORTS,)}
"""Tables that bear the stamp of another one."""


def stages(run: BuildRun, output: Output) -> Iterator[Stage]:
    """All steps of the build; without the crawl where its folders are not here."""
    with contextlib.suppress(InputError):
        yield CrawlStage(run, output)
    yield from (ScanStage(run, output), VerifyStage(run, output))
    yield from second_half(run, output, find_doubles(run, output))


def true_tables(run: BuildRun, output: Output, buckets: Iterable[int]) -> dict[str, list[str]]:
    tables, steps = Tables(output), list(stages(run, output))
    return {
        str(bucket): [s.name for s in steps if tables.fingerprint(s.name, bucket) == s.fingerprint(bucket)]
        for bucket in buckets
    }


def true_targets(run: BuildRun, output: Output) -> tuple[str, ...]:
    """Numbers of the lists of targets that their sources would not be asked for again."""
    tables = Tables(output)
    return tuple(
        str(number)
        for number, stamp in _target_stamps(run, output).items()
        if tables.fingerprint(TARGETS, number) == stamp
    )


def restamp_targets(run: BuildRun, output: Output, numbers: Iterable[str]) -> None:
    stamps = _target_stamps(run, output)
    for number in map(int, numbers):
        if number in stamps:
            restamp(output, f"tables/{TARGETS}/{number:05d}.parquet", _STAMP, stamps[number])


def restamp_tables(output: Output, steps: Iterable[Stage], bucket: int, true: Iterable[str]) -> None:
    """In the order of the build: each stamp follows from the one before."""
    for stage in steps:
        if stage.name in true:
            stamp = stage.fingerprint(bucket)
            for folder in (stage.name, *_BESIDE.get(stage.name, ())):
                name = f"tables/{folder}/{bucket:05d}.parquet"
                if output.exists(name):
                    restamp(output, name, _STAMP, stamp)


def dataset_is_finished(run: BuildRun, output: Output) -> bool:
    return is_whole(output, whole_stamp(run, output, find_doubles(run, output)))


def _target_stamps(run: BuildRun, output: Output) -> dict[int, str]:
    people, stamps = listed_people(output), {}
    there = set(table_numbers(output, TARGETS))
    for number, settings in enumerate(run.crawl.network_sources):
        if number in there:
            try:
                stamps[number] = targets_stamp(settings, people)
            except InputError:
                continue  # its file of URLs is not here: the build will ask again, and obey the tombstones
    return stamps
