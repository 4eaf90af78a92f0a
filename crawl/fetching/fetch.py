"""Photos of targets from the network, host by host: started, watched, resumed, and written down whole.

Each call is the only one to ask its hosts. A call that is killed, or whose child is, goes on where it was
when it is made again. Knows nothing of HTTP: that is the child's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from crawl.fetching.hosts import host_name
from crawl.fetching.moves import moved_targets, settled
from crawl.fetching.partition import Partition
from crawl.fetching.process import Child, ChildKilled
from crawl.fetching.target import Fetched, Target
from crawl.output import Output
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import refusal
from crawl.stage import Tick

FETCH = "fetch"
"""What the parent ticks as."""
_GRACE_S = 60.0
"""How much longer than its own limit a child may take to say so."""
_STRIKES = 2

__all__ = [
    "FetchSettings",
    "by_host",
    "fetch_all",
    "fetch_partition",
    "fetch_partitions",
    "moved_targets",
    "read_rows",
    "settled",
]


def fetch_partition(
    host: str,
    targets: Sequence[Target],
    settings: FetchSettings,
    output: Output,
    tick: Tick,
    refresh_before: str | None = None,
) -> list[Fetched]:
    """`fetch_partitions` for one host; its targets' rows."""
    fetch_partitions({host: targets}, settings, output, tick, refresh_before)
    return list(Partition(host, targets, output).rows())


def fetch_partitions(
    targets: Mapping[str, Sequence[Target]],
    settings: FetchSettings,
    output: Output,
    tick: Tick,
    refresh_before: str | None = None,
) -> None:
    """Fetch what is not there yet of each host's targets, in one child process, and write `tables/fetch`.

    Hosts as `by_host` spells them; nobody else may ask them meanwhile. Photos fetched before `refresh_before`
    (ISO 8601, UTC, seconds) are re-checked. Raises OSError (disk full), ChildFailed for a fault of ours.
    """
    partitions = [Partition(host, hosts, output, refresh_before) for host, hosts in targets.items()]
    waiting = [partition for partition in partitions if partition.plan()]
    tick(FETCH, sum(map(len, targets.values())) - sum(p.pending for p in waiting))
    if waiting:
        _fetch(waiting, settings, output, tick)
    for partition in waiting:
        partition.settle()


def fetch_all(
    targets: Iterable[Target],
    settings: FetchSettings,
    output: Output,
    tick: Tick,
    refresh_before: str | None = None,
) -> Iterator[Fetched]:
    """Targets of any hosts, all asked from here; photos that moved to further hosts are fetched there."""
    groups = by_host(targets)
    fetch_partitions(groups, settings, output, tick, refresh_before)
    found: dict[Target, Fetched] = {}
    moved = moved_targets(_rows(groups, output))
    while moved:
        onward = by_host(moved)
        fetch_partitions(onward, settings, output, lambda stage, photos: None, refresh_before)
        rows = list(_rows(onward, output))
        found |= {row.target: row for row in rows}
        moved = [target for target in moved_targets(rows) if target not in found]
    for row in _rows(groups, output):
        yield settled(row, found.get)


def _rows(groups: Mapping[str, Sequence[Target]], output: Output) -> Iterator[Fetched]:
    for host, targets in groups.items():
        yield from read_rows(host, targets, output)


def _fetch(partitions: Sequence[Partition], settings: FetchSettings, output: Output, tick: Tick) -> None:
    """All of them, whatever becomes of the child."""
    try:
        _run(partitions, settings, output, tick)
    except ChildKilled:
        for partition in partitions:  # one by one: then it is clear which answer kills
            _alone(partition, settings, output, tick)


def _alone(partition: Partition, settings: FetchSettings, output: Output, tick: Tick) -> None:
    strikes, before = 0, -1
    while (pending := partition.plan()) > 0:
        strikes, before = (strikes + 1 if pending == before else 1), pending
        if strikes > _STRIKES:
            partition.give_up(refusal("crash", _STRIKES), settings.agent, _now(), retry=False, most=1)
            continue
        try:
            _run([partition], settings, output, tick)
        except ChildKilled:
            continue
        return


def _run(partitions: Sequence[Partition], settings: FetchSettings, output: Output, tick: Tick) -> None:
    """One child process. What it had no time for gets rows that say so."""
    job = {
        "kind": "photos",
        "settings": dataclasses.asdict(settings),
        "hosts_owned": [p.host for p in partitions],
        "output": output.url,
        "hosts": [{"journal": p.journal, "todo": p.todo} for p in partitions],
    }
    with Child(job, settings.partition_timeout_s + settings.timeout_s + _GRACE_S) as child:
        for record, _ in child.heard():
            tick(FETCH, sum(record["rows"].values()))
            for reason in record["rows"].keys() - {"stored"}:
                tick(f"{FETCH}: {reason}", record["rows"][reason])
        late = child.late
    if late:
        for partition in partitions:
            out_of_time = refusal("partition_timeout", threshold=settings.partition_timeout_s)
            partition.give_up(out_of_time, settings.agent, _now(), retry=True)


def by_host(targets: Iterable[Target]) -> dict[str, list[Target]]:
    """The targets of each host, in their order; those without a valid address under "", where nobody is asked."""
    groups: dict[str, list[Target]] = {}
    for target in targets:
        groups.setdefault(host_name(target.image_url), []).append(target)
    return groups


def read_rows(host: str, targets: Sequence[Target], output: Output) -> Iterator[Fetched]:
    """The latest row of each of these targets that has one."""
    return Partition(host, targets, output).rows()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
