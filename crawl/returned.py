"""Photos that were taken down and that a crawl has met again, at another address: forgotten there too.

Their bytes were refused by the fetcher. What is left to do is to leave a tombstone for the new address and to take
it out of the lists. Knows nothing of shards.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import pyarrow.parquet as pq

from crawl.fetching.partition import journal_folder
from crawl.fetching.target import Fetched
from crawl.output import Output
from crawl.scrub import Words, scrub_folder
from crawl.tables import Entry, Tables, table_numbers
from crawl.tombstones import TAKEN_DOWN, Item, Tombstones, read_tombstones, spelt, write_tombstones
from crawl.wanted import TARGETS, Listed, obeying

FETCH, WANTED = "tables/fetch", "tables/wanted"


def is_taken_down(row: Fetched) -> bool:
    return row.rejection is not None and row.rejection.reason == TAKEN_DOWN


def bury(output: Output, rows: Sequence[Fetched]) -> None:
    """Forget where these were found; from now on nobody asks there."""
    tombstones = read_tombstones(output)
    assert tombstones, "a fetcher refuses by tombstones"
    urls = sorted({url for row in rows for url in (row.target.image_url, row.final_url) if url})
    items: list[Item] = [("url", spelt("url", url)) for url in urls]
    tombstones = tombstones.with_items(items, "", tombstones.version)
    write_tombstones(output, tombstones)
    scrub_targets(output, tombstones)
    scrub_fetched(output, set(urls))


def scrub_targets(output: Output, tombstones: Tombstones) -> None:
    """Of listed photos that were taken down, only the number stays."""
    tables = Tables(output)
    for number in table_numbers(output, TARGETS):
        entries = list(tables.read(TARGETS, number, Listed))
        changed = list(_obeying(entries, tombstones))
        if changed != entries:
            tables.write(TARGETS, number, Listed, changed, tables.fingerprint(TARGETS, number) or "")


def scrub_fetched(output: Output, words: Words) -> None:
    """What was asked for, what came of it, and the journals of fetches under way."""
    for folder in (FETCH, WANTED):
        scrub_folder(output, folder, words)
        for name in output.names(folder):
            if _is_empty(output, f"{folder}/{name}"):
                output.remove(f"{folder}/{name}")  # its name and metadata say which host it is
    elsewhere = journal_folder(output)
    if not output.is_local and os.path.isdir(elsewhere):
        scrub_folder(Output(elsewhere), ".", words)


def _is_empty(output: Output, name: str) -> bool:
    if not name.endswith(".parquet"):
        return output.size(name) == 0
    with output.open(name) as file:
        return int(pq.read_metadata(file).num_rows) == 0


def _obeying(entries: Iterable[Entry[Listed]], tombstones: Tombstones) -> Iterable[Entry[Listed]]:
    for entry in entries:
        yield entry if entry.row is None else dataclasses.replace(entry, row=obeying(entry.row, tombstones))
