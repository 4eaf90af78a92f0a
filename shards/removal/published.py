"""Taking rows out of a dataset that has no working tables: one that was published, merged, split or copied.

Only the tars that hold what goes are written again. Each step may be done again, and does then nothing.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable

from crawl.output import Output
from crawl.tables import from_record
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import read_identities, recounted, save_identities
from shards.beside.ledger import LedgerRow, read_ledger, removed_row, save_ledger
from shards.format.index import FOLDER, IndexRow, ShardRow, read_index, write_index
from shards.removal.intent import Intent
from shards.removal.tars import filtered


def purge_published(output: Output, intent: Intent) -> None:
    """Tars, index, ledger, identities."""
    _purge_shards(output, intent)
    _purge_ledger(output, intent)
    _purge_identities(output, intent)


def _purge_shards(output: Output, intent: Intent) -> None:
    index, keys = read_index(output), intent.keys
    owners = {row.key: row.identity for row in index.rows()}
    rows_of: dict[str, list[IndexRow]] = defaultdict(list)
    for row in index.rows():
        rows_of[row.shard].append(row)
    shards: list[ShardRow] = []
    rows: list[IndexRow] = []
    for shard in index.shards:
        here = rows_of[shard.file]
        name = f"{FOLDER}/{shard.file}"
        if not any(row.key in keys for row in here):
            shards.append(shard)
            rows += here
        elif output.exists(name):
            left = filtered(output, name, shard.file, lambda key: key not in keys, owners)
            if left is not None:
                shards.append(left[0])
                rows += left[1]
    if shards != list(index.shards) or index.version != intent.version:
        write_index(output, index.buckets, shards, rows, version=intent.version)


def _purge_ledger(output: Output, intent: Intent) -> None:
    table, keys = read_ledger(output), intent.keys
    if not any(key in keys for key in table["key"].to_pylist()):
        return
    rows = [from_record(LedgerRow, row) for row in table.to_pylist()]
    there = [row for row in rows if row.key not in keys and row.status != "removed"]
    there = [
        dataclasses.replace(row, duplicate_of=None if row.duplicate_of in keys else row.duplicate_of) for row in there
    ]
    buckets = {*(row.bucket for row in rows if row.status == "removed"), *intent.buckets}
    gone = [row for bucket in sorted(buckets) for row in _removed_rows(rows, bucket, intent)]
    save_ledger(output, [*there, *gone], table.schema.metadata)


def _removed_rows(rows: Iterable[LedgerRow], bucket: int, intent: Intent) -> list[LedgerRow]:
    """Of an unconcerned bucket as they are."""
    counts = intent.removed.get(str(bucket))
    if counts is None:
        return [row for row in rows if row.bucket == bucket and row.status == "removed"]
    owners = [identity for identity in sorted(counts) for _ in range(counts[identity])]
    return [removed_row(identity, bucket, number) for number, identity in enumerate(owners)]


def _purge_identities(output: Output, intent: Intent) -> None:
    if output.exists(IDENTITIES):
        stay = [i for i in read_identities(output) if i.identity not in intent.identities]
        save_identities(output, recounted(stay, read_ledger(output)))
