"""`python -m crawl status DATASET`: how far the fetching of a dataset's photos is, host by host. Reads, writes nothing.

Also while a crawl is running: finished rows are in the journals.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.table import Table

from crawl.command import console, in_words
from crawl.errors import InputError
from crawl.fetching.hosts import host_name
from crawl.fetching.partition import FOLDER, Partition
from crawl.fetching.target import Target
from crawl.output import Output
from crawl.tables import Tables, from_record
from crawl.wanted import TARGETS, Listed

WANTED = "tables/wanted"
_STORED = "stored"


@dataclass(slots=True)
class HostStatus:
    """One host's photos: stored, refused by reason, still to be asked."""

    host: str
    wanted: int
    outcomes: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    """Refused for now: the next run asks again."""

    @property
    def waiting(self) -> int:
        return self.wanted - sum(self.outcomes.values())


def hosts_status(output: Output) -> list[HostStatus]:
    """Every host that was ever to be asked, in order of its name. Raises InputError when there is none."""
    found = [_status(output, targets) for targets in _wanted(output)]
    if not found:
        raise InputError(f"{output.url}: nothing was crawled from the network here ({FOLDER} is missing)")
    return sorted(found, key=lambda status: status.host)


def unlisted(output: Output) -> Counter[str]:
    """What sources saw and did not pass on to be fetched: reason → how often."""
    tables, reasons = Tables(output), Counter[str]()
    for name in output.names(f"tables/{TARGETS}"):
        for entry in tables.read(TARGETS, int(name.split(".")[0]), Listed):
            if entry.row is not None and entry.row.unlisted is not None:
                reasons[entry.row.unlisted.rejection.reason] += 1
    return reasons


def print_status(output: Output) -> None:
    """A table of hosts, and the sum; what the sources left out."""
    statuses = hosts_status(output)
    table = Table("host", "wanted", "stored", "waiting", "tried again", "refused, and why")
    for column in table.columns[1:5]:
        column.justify = "right"
    for status in [*statuses, _sum(statuses)]:
        refused = Counter({reason: n for reason, n in status.outcomes.items() if reason != _STORED})
        counts = (status.wanted, status.outcomes[_STORED], status.waiting, status.retried)
        table.add_row(status.host, *map(str, counts), in_words(refused))
    console().print(table)
    if left_out := unlisted(output):
        console().print(f"not listed: {in_words(left_out)}")


def status_command(arguments: list[str]) -> int:
    """`python -m crawl status DATASET`."""
    parser = argparse.ArgumentParser(prog="python -m crawl status", description="How far the fetching of photos is.")
    parser.add_argument("dataset", help="the dataset folder, or its URL")
    print_status(Output(parser.parse_args(arguments).dataset))
    return 0


def _wanted(output: Output) -> Iterator[list[Target]]:
    for name in output.names(WANTED):
        yield [from_record(Target, record) for record in json.loads(output.read(f"{WANTED}/{name}"))]


def _status(output: Output, targets: list[Target]) -> HostStatus:
    host = host_name(targets[0].image_url)
    status = HostStatus(host, len(targets))
    for row in Partition(host, targets, output).rows():
        status.outcomes[row.rejection.reason if row.rejection else _STORED] += 1
        status.retried += row.retry
    return status


def _sum(statuses: list[HostStatus]) -> HostStatus:
    total = HostStatus(f"{len(statuses)} hosts", sum(s.wanted for s in statuses))
    for status in statuses:
        total.outcomes += status.outcomes
        total.retried += status.retried
    return total
