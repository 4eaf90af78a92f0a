"""The crawl of network sources: list people and photos, fetch host by host, sort into identity buckets.

What is known is not asked again; what failed and may pass is tried again each run. Where hosts are asked from
(here, or from a cluster's workers) is the caller's choice. Knows nothing of what the photos show.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from crawl.config import CrawlConfig, CrawlRun, fetch_settings
from crawl.fetching.api import Answer, Api
from crawl.fetching.fetch import FETCH, FetchSettings, by_host, fetch_partition, moved_targets, read_rows, settled
from crawl.fetching.hosts import host_of
from crawl.fetching.partition import Partition, host_key
from crawl.fetching.session import Session
from crawl.fetching.target import Fetched, Target
from crawl.found import sort_into_buckets
from crawl.output import Output
from crawl.returned import bury, is_taken_down
from crawl.stage import Tick
from crawl.tables import from_record, to_record
from crawl.wanted import people_of_targets, removed_names, wanted_people, wanted_targets

Hosts = Mapping[str, Sequence[Target]]
AskHosts = Callable[[Sequence[str]], None]
"""Runs `HostWork` for each of these hosts: one at a time for each host, hosts in any order or side by side."""
Expect = Callable[[str, int], None]
"""Told (`fetch` or `hosts`, how many there are to be done)."""
HOSTS = "hosts"
MOST_ROUNDS = 6
"""A photo may move from host to host as often as a redirect may be followed."""


class HostWork:
    """Fetches one host's targets, as written down by `harvest`: work for any process that sees the output."""

    def __init__(self, run: CrawlRun, settings: FetchSettings | None = None, now: datetime | None = None) -> None:
        self._output = Output(run.output)
        self._settings = settings or fetch_settings(run.crawl)
        self._refresh_before = _refresh_before(run.crawl, now or datetime.now(UTC))

    def __call__(self, host: str, tick: Tick) -> None:
        targets = [from_record(Target, record) for record in json.loads(self._output.read(_wanted_file(host)))]
        fetch_partition(host, targets, self._settings, self._output, tick, self._refresh_before)
        tick(HOSTS, 1)


def harvest(
    run: CrawlRun,
    output: Output,
    api: Api,
    ask: AskHosts,
    now: datetime,
    environment: Mapping[str, str] = os.environ,
    expect: Expect = lambda name, count: None,
) -> None:
    """Leave `tables/found` for every bucket. Raises InputError for wrong lists and missing keys."""
    people = wanted_people(run.crawl, output, api, now.date())
    listed = wanted_targets(run.crawl, output, api, people, environment)
    targets = [item.target for item in listed if item.target is not None]
    groups = by_host(targets)
    rounds = _fetch(run.crawl, output, groups, ask, now, expect)
    returned = [row for row in (*_rows(groups, output), *rounds.values()) if is_taken_down(row)]
    if returned:
        bury(output, returned)
    rows = (row for row in (settled(row, rounds.get) for row in _rows(groups, output)) if not is_taken_down(row))
    known = people_of_targets(run.crawl, people, targets).values()
    sort_into_buckets(output, run.shards.buckets, rows, known, removed_names(output))


def _fetch(
    config: CrawlConfig, output: Output, groups: Hosts, ask: AskHosts, now: datetime, expect: Expect
) -> dict[Target, Fetched]:
    """Ask every host that has something left to ask, then the hosts its photos moved to; the latter's rows."""
    onward: dict[Target, Fetched] = {}
    hosts = photos = 0
    for number in range(MOST_ROUNDS):
        waiting = [host for host, targets in groups.items() if _is_waiting(config, output, host, targets, now)]
        for host in waiting:
            content = json.dumps([to_record(target) for target in groups[host]], ensure_ascii=False)
            output.write(_wanted_file(host), content.encode("utf-8", "surrogatepass"))
        hosts, photos = hosts + len(waiting), photos + sum(len(groups[host]) for host in waiting)
        if waiting:
            expect(HOSTS, hosts)
            expect(FETCH, photos)
            ask(waiting)
        moved = moved_targets(_rows(groups, output))
        if number or moved:
            there = set(moved)
            onward |= {row.target: row for row in _rows(groups, output) if number or row.target in there}
        groups = by_host(target for target in moved if target not in onward)
        if not groups:
            break
    return onward


def _is_waiting(config: CrawlConfig, output: Output, host: str, targets: Sequence[Target], now: datetime) -> bool:
    return Partition(host, targets, output, _refresh_before(config, now)).plan() > 0


def _rows(groups: Hosts, output: Output) -> Iterator[Fetched]:
    for host, targets in groups.items():
        yield from read_rows(host, targets, output)


def _refresh_before(config: CrawlConfig, now: datetime) -> str | None:
    if config.refresh_days is None:
        return None
    return (now - timedelta(days=config.refresh_days)).astimezone(UTC).isoformat(timespec="seconds")


def _wanted_file(host: str) -> str:
    return f"tables/wanted/{host_key(host)}.json"


@contextlib.contextmanager
def network_api(config: CrawlConfig, settings: FetchSettings | None = None) -> Iterator[Api]:
    """The way to the sources' APIs. Its process starts with the first question, and never when there is none."""
    asked = (getattr(settings, "url", None) for settings in (*config.network_sources, config.people))
    hosts = {host_of(url) for url in asked if url is not None}
    with contextlib.ExitStack() as stack:

        @functools.cache
        def session() -> Session:
            return stack.enter_context(Session(settings or fetch_settings(config), hosts, obey_robots=False))

        def get(url: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
            return session().get(url, parameters, headers)

        yield Api(get, time.sleep, lambda: datetime.now(UTC), Random())


def ask_here(run: CrawlRun, tick: Tick, settings: FetchSettings | None = None) -> AskHosts:
    """Ask hosts from this process, one after another."""
    work = HostWork(run, settings)

    def ask(hosts: Iterable[str]) -> None:
        for host in hosts:
            work(host, tick)

    return ask
