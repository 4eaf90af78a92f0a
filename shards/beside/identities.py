"""`identities.parquet`: who is behind each identity key, on what basis, and what was found of them.

The only file of a dataset that holds names. Never inside shards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from crawl.collect import PEOPLE
from crawl.output import Output
from crawl.people.person import Person
from crawl.tables import Tables, arrow_schema, from_record, to_record
from filter.decide import IDENTITIES
from filter.names import Finding
from filter.verify import IdentityFinding
from shards.beside.ledger import bucket_ledger

FILE = "identities.parquet"
UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True, slots=True)
class Identity:
    """One name of the dataset."""

    identity: str
    name: str
    basis: str
    source: str
    bucket: int
    photos: int
    kept: int
    licences: tuple[str, ...]
    """`licence: photos` of the kept ones, most first."""
    second_person_photos: int
    """Photos that show one other person, again and again: set aside, and worth a look."""
    no_majority: bool
    """No person is in enough of the photos to be the named one."""
    same_as: str | None
    """Another identity of the dataset that shows the same person."""
    same_as_cosine: float | None


def write_identities(output: Output, buckets: int, doubles: Mapping[str, Finding]) -> list[Identity]:
    """Write `identities.parquet`, ordered by bucket and identity."""
    tables = Tables(output)
    rows = [row for bucket in range(buckets) for row in _bucket_identities(tables, bucket, doubles)]
    save_identities(output, rows)
    return rows


def save_identities(output: Output, rows: Sequence[Identity]) -> None:
    schema = arrow_schema(Identity)
    with output.create(FILE) as file:
        pq.write_table(pa.Table.from_pylist([to_record(r) for r in rows], schema=schema), file, compression="zstd")


def read_identities(output: Output) -> list[Identity]:
    with output.open(FILE) as file:
        return [from_record(Identity, row) for row in pq.ParquetFile(file).read().to_pylist()]


def recounted(identities: Iterable[Identity], ledger: pa.Table) -> list[Identity]:
    """Photos, kept ones and licences as the ledger has them; `same_as` only of somebody who is there."""
    found: Counter[str] = Counter()
    licences: dict[str, Counter[str]] = defaultdict(Counter)
    columns = (ledger[name].to_pylist() for name in ("identity", "status", "licence"))
    for identity, status, licence in zip(*columns, strict=True):
        found[identity] += 1
        if status == "kept":
            licences[identity][licence or UNKNOWN_LICENCE] += 1
    people = list(identities)
    there = {person.identity for person in people}
    return [_recounted(person, found, licences[person.identity], there) for person in people]


def _recounted(person: Identity, found: Counter[str], licences: Counter[str], there: set[str]) -> Identity:
    if not person.identity:
        return person  # of a published dataset: somebody of whom nothing is told
    rolled = sorted(licences.items(), key=lambda item: (-item[1], item[0]))
    same = person.same_as if person.same_as in there else None
    return replace(
        person,
        photos=found[person.identity],
        kept=sum(licences.values()),
        licences=tuple(f"{licence}: {count}" for licence, count in rolled),
        same_as=same,
        same_as_cosine=person.same_as_cosine if same else None,
    )


def _bucket_identities(tables: Tables, bucket: int, doubles: Mapping[str, Finding]) -> list[Identity]:
    found: Counter[str] = Counter()
    licences: dict[str, Counter[str]] = defaultdict(Counter)
    for row in bucket_ledger(tables, bucket):
        found[row.identity] += 1
        if row.status == "kept":
            licences[row.identity][row.licence or UNKNOWN_LICENCE] += 1
    findings = {e.key: e.row for e in tables.read(IDENTITIES, bucket, IdentityFinding) if e.row}
    people = (e.row for e in tables.read(PEOPLE, bucket, Person) if e.row)
    return [_identity(p, bucket, found, licences[p.identity], findings, doubles) for p in people]


def _identity(
    person: Person,
    bucket: int,
    found: Counter[str],
    licences: Counter[str],
    findings: Mapping[str, IdentityFinding],
    doubles: Mapping[str, Finding],
) -> Identity:
    finding, double = findings.get(person.identity), doubles.get(person.identity)
    rolled = sorted(licences.items(), key=lambda item: (-item[1], item[0]))
    return Identity(
        identity=person.identity,
        name=person.name,
        basis=person.basis,
        source=person.source,
        bucket=bucket,
        photos=found[person.identity],
        kept=sum(licences.values()),
        licences=tuple(f"{licence}: {photos}" for licence, photos in rolled),
        second_person_photos=finding.second_person_photos if finding else 0,
        no_majority=bool(finding and finding.no_majority),
        same_as=double.same_as if double else None,
        same_as_cosine=double.cosine if double else None,
    )
