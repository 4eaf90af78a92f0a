"""`python -m shards build`: the whole pipeline, from a run file to a finished dataset folder.

The composition root: makes the stages, runs what is pending on Ray, then writes the files that speak of
the whole dataset. Every step is stamped with what it was made from, so the same command finishes an
interrupted build, redoes only what a change touches, and does nothing when nothing changed.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import yaml

from caption import budget, replies
from caption.models import licences as caption_licences
from caption.stage import CaptionStage
from crawl.collect import CrawlStage
from crawl.command import Bars
from crawl.errors import InputError
from crawl.harvest import HostWork, harvest, network_api
from crawl.output import Output
from crawl.stage import pending
from crawl.tables import Tables
from filter.doubles import find_doubles
from filter.models import licences
from shards.beside.identities import Identity, read_identities
from shards.beside.resolved import RESOLVED, write_resolved
from shards.card.write import write_card
from shards.config import BuildRun
from shards.format.index import FORMAT
from shards.removal.intent import refuse_half_removed
from shards.removal.takedown import forget_returned
from shards.steps.pack import shards_are_there
from shards.steps.plan import Gpus, Item, Work, cluster, no_gpus, run_on_ray
from shards.steps.stages import first_half, first_work, second_half, second_half_gpus, second_work
from shards.steps.whole import is_whole, only_one, whole_stamp, write_whole


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did."""

    identities: list[Identity]
    worked: bool
    """False when everything was finished already."""
    seconds: dict[str, float] = field(default_factory=dict)


def build(run: BuildRun) -> Built:
    """Build, or finish building, the dataset of a run file.

    Raises InputError for what a person can mend and OSError from the system (disk full), both with
    nothing half-written: the same command goes on from there.
    """
    output = Output(run.output)
    _check_paths(run, output)
    CrawlStage(run, output)  # a wrong root, and a wrong prompt, are said before anything is made
    CaptionStage(run, output)
    if output.is_local:
        os.makedirs(output.path("tables"), exist_ok=True)
    with only_one(output):
        _check_format(output)
        refuse_half_removed(output)
        for line in [*licences(run.filter), *caption_licences(run.caption)]:
            print(line, file=sys.stderr)
        write_resolved(run, output)
        _remove_leftovers(output, run.shards.buckets)
        return _run(run, output)


def _run(run: BuildRun, output: Output) -> Built:
    seconds: dict[str, float] = {}
    tables, buckets = Tables(output), range(run.shards.buckets)
    with Bars() as bars, _engine(run, output) as on_engine:
        if run.crawl.network_sources:
            with _timed(seconds, "fetch"), network_api(run.crawl) as api:
                ask = functools.partial(_ask_hosts, run, on_engine, bars)
                harvest(run, output, api, ask, datetime.now(UTC), expect=bars.expect)
        with _timed(seconds, "crawl, scan, verify"):
            first = first_half(run, output)
            waiting = pending(first, buckets, tables)
            if waiting:
                for stage in first:
                    bars.expect(stage.name, sum(first[0].size(b) for b in waiting))  # type: ignore[attr-defined]
                on_engine(functools.partial(first_work, run), waiting, bars)
            forget_returned(run, output)
        with _timed(seconds, "crop, caption, shards"):
            doubles = find_doubles(run, output)
            second = second_half(run, output, doubles)
            missing = [b for b in buckets if not shards_are_there(output, b)]
            for bucket in missing:
                output.remove(f"tables/shards/{bucket:05d}.parquet")
            waiting_too = pending(second, buckets, tables)
            if waiting_too:
                for stage in second:
                    bars.expect(stage.name, sum(_verified(tables, b) for b in waiting_too))
                gpus = functools.partial(second_half_gpus, run)
                on_engine(functools.partial(second_work, run, doubles), waiting_too, bars, gpus)
    with _timed(seconds, "ledger, index, card"):
        stamp = whole_stamp(run, output, doubles)
        whole = is_whole(output, stamp)
        if not whole:
            write_whole(run, output, stamp)
        carded = write_card(run, output)  # also after a change of what the card alone depends on
    return Built(read_identities(output), bool(waiting or waiting_too or not whole or carded), seconds)


def _verified(tables: Tables, bucket: int) -> int:
    return sum(rejection is None for rejection in tables.rejections("verify", bucket).values())


class OnEngine(Protocol):
    """Do these items on Ray, and show it."""

    def __call__(self, start: Callable[[], Work], items: Sequence[Item], bars: Bars, gpus: Gpus = no_gpus) -> None: ...


@contextmanager
def _engine(run: BuildRun, output: Output) -> Iterator[OnEngine]:
    """Ray, started when the first work is there: a finished build starts none."""
    started: list[int] = []
    context = cluster(run.engine)

    def on_engine(start: Callable[[], Work], items: Sequence[Item], bars: Bars, gpus: Gpus = no_gpus) -> None:
        if not started:
            started.append(context.__enter__())
        run_on_ray(start, items, run.engine, started[0], bars.tick, gpus)
        bars.settle()

    try:
        yield on_engine
    finally:
        if started:
            context.__exit__(None, None, None)


def _ask_hosts(run: BuildRun, on_engine: OnEngine, bars: Bars, hosts: Sequence[str]) -> None:
    """A host is one piece of work: so there is one request to it at a time on the whole cluster."""
    on_engine(functools.partial(HostWork, run), hosts, bars)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


def _check_paths(run: BuildRun, output: Output) -> None:
    """In a Ray job the current folder is a copy that goes away with the job."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and output.is_local and not os.path.isabs(run.output):
        raise InputError(f"output: {run.output}: give an absolute path or a URL when the build runs as a Ray job")
    if output.is_local and os.path.exists(output.path("")) and not os.path.isdir(output.path("")):
        raise InputError(f"output: {run.output}: is a file, not a folder")


def _check_format(output: Output) -> None:
    if not output.exists(RESOLVED):
        return
    try:
        found = yaml.safe_load(output.read(RESOLVED)).get("format")
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
        found = None
    if found != FORMAT:
        raise InputError(
            f"{output.path(RESOLVED)}: this folder was built in format {found}, this version writes format {FORMAT}: "
            "build into another folder"
        )


def _remove_leftovers(output: Output, buckets: int) -> None:
    """Half-written files of a killed run, and tables and shards of a layout with more buckets."""
    folders = [f"tables/{s}" for s in _FOLDERS]
    if output.is_local:
        photos = output.path("photos")
        inside = sorted(os.listdir(photos)) if os.path.isdir(photos) else []
        output.remove_stale(
            ["", "shards", *folders, replies.FOLDER, budget.FOLDER, *(f"photos/{name}" for name in inside)]
        )
    for folder in ["shards", *folders]:
        for name in output.names(folder):
            number = re.match(r"(\d{5})[.-]", name)
            if number and int(number[1]) >= buckets:
                output.remove(f"{folder}/{name}")


_FOLDERS = (
    "people",
    "crawl",
    "scan",
    "verify",
    "identities",
    "pose",
    "classify",
    "crop",
    "caption",
    "efforts",
    "tars",
    "shards",
    "timings",
)
