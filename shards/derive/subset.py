"""Finished datasets as material for others: what one holds, and writing chosen samples of some as a new one.

Samples are copied as they are, in the layout of a build, so that what comes out is verified, read and taken down from
like any other. Working data (originals, tables, cached features) stays behind. Knows nothing of how samples are chosen.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import bucket_of
from crawl.tables import Tables, from_record
from crawl.tombstones import Tombstones, read_tombstones, write_tombstones
from filter.decide import IDENTITIES as CENTRES
from filter.verify import IdentityFinding
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import Identity, read_identities, recounted, save_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import LedgerRow, read_ledger, removed_row, save_ledger
from shards.beside.resolved import RESOLVED, write_resolved
from shards.card.write import write_card
from shards.config import BuildRun
from shards.format.index import INDEX, IndexRow, ShardRow, write_index
from shards.format.sample import Sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from shards.read import Dataset
from shards.removal.intent import refuse_half_removed
from shards.steps.whole import resolved_run

MADE_FROM = "made_from.json"
UNFINISHED = ".unfinished"


class Material:
    """A finished dataset. Raises InputError, one line, for what is none."""

    def __init__(self, url: str) -> None:
        self.output, self.dataset = Output(url), Dataset(url)
        for name in (LEDGER, IDENTITIES, RESOLVED):
            if not self.output.exists(name):
                raise InputError(f"{url}: no finished dataset: {name} is missing")
        refuse_half_removed(self.output)
        run = resolved_run(self.output)
        assert run is not None, "it is there"
        self.run = run
        self.ledger = [from_record(LedgerRow, row) for row in read_ledger(self.output).to_pylist()]
        self.people = read_identities(self.output)
        self.tombstones = read_tombstones(self.output)

    @property
    def url(self) -> str:
        return self.output.url

    def centres(self) -> list[IdentityFinding]:
        """Of the identities, where the working tables are there; else []."""
        tables = Tables(self.output)
        buckets = range(self.dataset.index.buckets)
        return [e.row for b in buckets for e in tables.read(CENTRES, b, IdentityFinding) if e.row is not None]

    def history(self) -> dict[str, Any]:
        """What tells this dataset from others, in words that name nobody."""
        return {
            "version": self.dataset.index.version,
            "shards": self.dataset.index.digest,
            "samples": len(self.dataset),
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a new dataset is to hold. The ledger's buckets, and the people's counts, are set when it is written."""

    run: BuildRun
    """Settings to be written down: how the samples were made."""
    ledger: Sequence[LedgerRow]
    people: Sequence[Identity]
    tombstones: Tombstones
    samples: Mapping[str, Material]
    """Key of every kept photo → where its sample is."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Key → licence, where a stricter one has come to count."""
    history: Mapping[str, Any] = field(default_factory=dict)


def write_dataset(url: str, chosen: Chosen) -> Output:
    """Write it whole; the same choice gives the same bytes. Raises InputError for a folder that holds something."""
    output, buckets = Output(url), chosen.run.shards.buckets
    _claim(output)
    rows = _by_bucket(chosen.ledger, buckets)
    shards: list[ShardRow] = []
    index: list[IndexRow] = []
    for bucket in range(buckets):
        kept = sorted((r.identity, r.key) for r in rows[bucket] if r.status == "kept")
        sizes = [(identity, _size(chosen, key)) for identity, key in kept]
        samples = (_sample(chosen, key) for _, key in kept)
        of_bucket = write_bucket(output, bucket, samples, sizes, round(chosen.run.shards.max_shard_mb * 1e6))
        shards, index = shards + of_bucket[0], index + of_bucket[1]
    save_ledger(output, [row for bucket in range(buckets) for row in rows[bucket]])
    ledger = read_ledger(output, ["identity", "status", "licence"])
    people = [dataclasses.replace(person, bucket=bucket_of(person.identity, buckets)) for person in chosen.people]
    save_identities(output, sorted(recounted(people, ledger), key=lambda p: (p.bucket, p.identity)))
    if chosen.tombstones:
        write_tombstones(output, chosen.tombstones)
    write_resolved(chosen.run.model_copy(update={"output": url}), output)
    output.write(MADE_FROM, (json.dumps(chosen.history, indent=1, sort_keys=True) + "\n").encode())
    write_index(output, buckets, shards, index, version=chosen.tombstones.version)
    write_card(chosen.run, output)
    output.remove(UNFINISHED)
    return output


def _claim(output: Output) -> None:
    """A folder that a killed run of ours left is taken up again."""
    if output.exists(UNFINISHED):
        output.remove_stale(["", "shards"])
        return
    if output.exists(INDEX) or output.names("") or output.folders(""):
        raise InputError(f"{output.url}: is there already: name a new folder")
    output.write(UNFINISHED, b"")


def _by_bucket(ledger: Sequence[LedgerRow], buckets: int) -> dict[int, list[LedgerRow]]:
    rows: dict[int, list[LedgerRow]] = defaultdict(list)
    gone: dict[int, Counter[str]] = defaultdict(Counter)
    for row in ledger:
        bucket = bucket_of(row.identity, buckets)
        if row.status == "removed":
            gone[bucket][row.identity] += 1
        else:
            rows[bucket].append(dataclasses.replace(row, bucket=bucket))
    for bucket, counts in gone.items():
        owners = sorted(counts.elements())
        rows[bucket] += [removed_row(identity, bucket, number) for number, identity in enumerate(owners)]
    return rows


def _size(chosen: Chosen, key: str) -> int:
    if key in chosen.licences:
        return sample_size(_sample(chosen, key))
    index = chosen.samples[key].dataset.index
    return int(index.num_bytes[index.position(key)])


def _sample(chosen: Chosen, key: str) -> Sample:
    sample = chosen.samples[key].dataset.sample(key)
    if key not in chosen.licences:
        return sample
    return dataclasses.replace(sample, metadata={**sample.metadata, "licence": chosen.licences[key]})


def kept_rows(ledger: Sequence[LedgerRow]) -> Iterator[LedgerRow]:
    return (row for row in ledger if row.status == "kept")
