"""A finished dataset folder, opened for a person to look at: ledger, identities, shards, the run file.

Only ledger and index must be there; what else is missing is left unknown, and said. Holds of the ledger what
counts are made of, and reads whole rows a bucket at a time. Knows nothing of pages.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crawl.errors import InputError, one_line
from crawl.output import Output
from crawl.photo import bucket_of
from crawl.tables import from_record
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import Identity, read_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import FunnelStep, LedgerRow, NotConserved, funnel
from shards.beside.resolved import RESOLVED, read_resolved
from shards.config import BuildRun
from shards.read import Dataset

NOBODY = "(no person on record)"
"""Photos in nobody's folder, and in a published ledger all that were not kept."""
_COUNTED = ["identity", "bucket", "status", "stage", "reason", "licence", "fetched_at"]
_WORDS = [name for name in _COUNTED if name not in ("bucket", "fetched_at")]


class Folder:
    """Raises InputError, one line, for a folder that holds no finished dataset or whose files are broken."""

    def __init__(self, url: str) -> None:
        self.output = Output(url)
        if not self.output.exists(LEDGER):
            raise InputError(f"{url}: no finished dataset here ({LEDGER} is missing)")
        self.dataset = Dataset(url, verify="never")
        self.run = _run(self.output)
        self.unknown = [] if self.run else [f"{RESOLVED} is missing or of another version: settings are unknown"]
        try:
            with self.output.open(LEDGER) as file:
                self.counted: pa.Table = pq.ParquetFile(file).read(columns=_COUNTED)
            for name in _WORDS:
                at = self.counted.schema.get_field_index(name)
                self.counted = self.counted.set_column(at, name, self.counted[name].dictionary_encode())
            named = [p for p in read_identities(self.output) if p.identity] if self.output.exists(IDENTITIES) else []
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise InputError(f"{url}: {LEDGER} or {IDENTITIES} is broken: {one_line(error)}") from None
        if not any(person.name for person in named):
            self.unknown.append(f"{IDENTITIES} is missing or holds no names: people are shown by their keys")
        self.identities = self._listed(named)

    @property
    def name(self) -> str:
        """Of the folder itself, however it was asked for."""
        return self.output.path("").rstrip("/").rsplit("/", 1)[-1]

    @property
    def photos(self) -> int:
        return int(self.counted.num_rows)

    def funnel(self) -> list[FunnelStep]:
        """[] for a ledger whose stages this version does not know."""
        stays = pc.not_equal(self.counted["status"].cast(pa.string()), "removed")
        try:
            return funnel(self.counted.filter(stays))
        except NotConserved:
            return []

    def counts(self, *columns: str) -> Counter[tuple[str | None, ...]]:
        """How many photos have each combination of values."""
        grouped = self.counted.select(list(columns)).group_by(list(columns)).aggregate([([], "count_all")])
        values = [grouped[name].to_pylist() for name in columns]
        return Counter(dict(zip(zip(*values, strict=True), grouped["count_all"].to_pylist(), strict=True)))

    def rows_of(self, identity: str) -> list[LedgerRow]:
        """Every photo of one identity, as the ledger has them."""
        known = self.identities.get(identity)
        bucket = known.bucket if known else bucket_of(identity, self.dataset.index.buckets)
        rows = self._bucket(bucket if identity else None)
        return [from_record(LedgerRow, r) for r in rows.filter(pc.equal(rows["identity"], identity)).to_pylist()]

    @functools.lru_cache(maxsize=2)  # noqa: B019 -- one folder a process
    def _bucket(self, bucket: int | None) -> pa.Table:
        """Row groups that may hold it; all of them for None: photos without a person may be anywhere."""
        with self.output.open(LEDGER) as file:
            ledger = pq.ParquetFile(file)
            groups = [n for n in range(ledger.num_row_groups) if bucket is None or _may_hold(ledger, n, bucket)]
            return ledger.read_row_groups(groups) if groups else ledger.schema_arrow.empty_table()

    def _listed(self, named: list[Identity]) -> dict[str, Identity]:
        """By name; also keys that only the ledger or the index knows, such as that of files in nobody's folder."""
        people = {p.identity: replace(p, name=p.name or p.identity) for p in named}
        photos = {str(identity or ""): n for (identity,), n in self.counts("identity").items()}
        for key in sorted({*photos, *self.dataset.index.identities}):
            if key not in people:
                kept = len(self.dataset.index.identities.get(key, ()))
                bucket = bucket_of(key, self.dataset.index.buckets)
                people[key] = Identity(
                    key, key or NOBODY, "", "", bucket, photos.get(key, 0), kept, (), 0, False, None, None
                )
        return dict(sorted(people.items(), key=lambda item: (not item[0], item[1].name.casefold(), item[0])))


def _may_hold(ledger: pq.ParquetFile, group: int, bucket: int) -> bool:
    at = ledger.schema_arrow.get_field_index("bucket")
    limits = ledger.metadata.row_group(group).column(at).statistics
    return limits is None or not limits.has_min_max or bool(limits.min <= bucket <= limits.max)


def _run(output: Output) -> BuildRun | None:
    try:
        return read_resolved(output)
    except (InputError, OSError):
        return None
