"""The ledger: one row for every photo ever found, saying where it ended and why. And the funnel read from it.

Conservation law: found = kept + rejected + failed + removed, over all, per stage and per identity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.tables import Tables, arrow_schema, to_record
from crawl.tombstones import REMOVED, TAKEN_DOWN, nameless, removed_key
from filter.duplicates import strictest_licences

FILE = "ledger.parquet"
_FINGERPRINT = b"personae.fingerprint"
_AFTER_CRAWL = ("scan", "verify", "crop", "caption")
STAGES = (
    "crawl",
    "decode",
    "resolution",
    "duplicates",
    "faces",
    "scan",
    "verify",
    "classify",
    "names",
    "crop",
    "caption",
)
"""Every stage a rejection can name, in the order a photo meets them."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """docs/data-format.md describes each column."""

    key: str
    identity: str
    bucket: int
    source: str
    sha256: str
    status: str
    stage: str
    reason: str | None
    value: float | None
    threshold: float | None
    duplicate_of: str | None
    detail: str | None
    num_bytes: int
    licence: str | None
    author: str | None
    page_url: str | None
    image_url: str | None
    fetched_at: str | None
    signals: str
    attribution: str | None
    final_url: str | None
    http_status: int | None
    content_type: str | None
    etag: str | None
    last_modified: str | None
    user_agent: str | None


class NotConserved(AssertionError):
    """A photo was lost between two stages: a fault of ours, never the user's."""


def bucket_ledger(tables: Tables, bucket: int) -> Iterator[LedgerRow]:
    """The bucket's rows, ordered by identity, then source."""
    later = [tables.rejections(stage, bucket) for stage in _AFTER_CRAWL]
    packed = tables.rejections("shards", bucket).keys()
    rows = [_row(e.row, bucket, e.rejection, later, packed) for e in tables.read("crawl", bucket, Photo) if e.row]
    licences = strictest_licences([(row.key, row.licence, row.duplicate_of) for row in rows])
    for row in sorted(rows, key=lambda r: (r.identity, r.source, r.key)):
        yield replace(row, licence=licences.get(row.key, row.licence))


def write_ledger(output: Output, buckets: int, fingerprint: str) -> None:
    """Write `ledger.parquet`, a row group a bucket, stamped with what it was made from."""
    tables = Tables(output)
    schema = arrow_schema(LedgerRow).with_metadata({_FINGERPRINT: fingerprint.encode()})
    with output.create(FILE) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for bucket in range(buckets):
            rows = [to_record(row) for row in bucket_ledger(tables, bucket)]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def removed_row(identity: str, bucket: int, number: int) -> LedgerRow:
    """What the ledger says of a photo that was taken down."""
    photo = replace(nameless(identity), key=removed_key(bucket, number))
    return row_of(photo, bucket, "removed", REMOVED)


def save_ledger(output: Output, rows: Iterable[LedgerRow], metadata: dict[bytes, bytes] | None = None) -> None:
    """Ordered as a build orders it."""
    schema = arrow_schema(LedgerRow).with_metadata(metadata)
    ordered = sorted(rows, key=lambda row: (row.bucket, row.identity, row.source, row.key))
    with output.create(FILE) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([to_record(row) for row in ordered], schema=schema))


def ledger_fingerprint(output: Output) -> str | None:
    if not output.exists(FILE):
        return None
    with output.open(FILE) as file:
        return bytes((pq.read_schema(file).metadata or {}).get(_FINGERPRINT, b"")).decode()


def read_ledger(output: Output, columns: Sequence[str] | None = None) -> pa.Table:
    """The ledger as an arrow table."""
    with output.open(FILE) as file:
        return pq.ParquetFile(file).read(columns=columns)


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What one stage did."""

    stage: str
    entered: int
    reasons: tuple[tuple[str, int], ...]
    """(reason, photos), most first."""

    @property
    def left(self) -> int:
        return self.entered - sum(count for _, count in self.reasons)


def funnel(ledger: pa.Table) -> list[FunnelStep]:
    """Per stage how many photos entered and why some ended there; what is left last is what was kept."""
    ended = Counter(zip(ledger["stage"].to_pylist(), ledger["reason"].to_pylist(), strict=True))
    entered, steps = ledger.num_rows, []
    for stage in STAGES:
        here = Counter({reason: n for (s, reason), n in ended.items() if s == stage and reason is not None})
        if here or stage in ("crawl", "faces", "verify", "crop", "caption"):
            steps.append(FunnelStep(stage, entered, tuple(sorted(here.items(), key=lambda item: (-item[1], item[0])))))
            entered = steps[-1].left
    kept = sum(n for (_, reason), n in ended.items() if reason is None)
    if entered != kept:
        raise NotConserved(f"{ledger.num_rows} found, {kept} kept, but the stages leave {entered}")
    return steps


def _row(
    photo: Photo,
    bucket: int,
    failed: Rejection | None,
    later: list[dict[str, Rejection | None]],
    packed: object,
) -> LedgerRow:
    ended = failed or next((r for stage in later if (r := stage.get(photo.key)) is not None), None)
    if (ended is None) != (photo.key in packed):  # type: ignore[operator]
        raise NotConserved(f"{photo.source}: neither kept nor rejected" if ended is None else f"{photo.source}: both")
    status = "kept" if ended is None else "failed" if ended.stage == "crawl" else "rejected"
    if ended is not None and ended.reason == TAKEN_DOWN:
        status, photo = "removed", replace(nameless(photo.identity), key=photo.key)
    return row_of(photo, bucket, status, ended)


def row_of(photo: Photo, bucket: int, status: str, ended: Rejection | None) -> LedgerRow:
    """`ended`: where and why; None for a photo that is kept."""
    reason = ended or Rejection("shards", "")
    return LedgerRow(
        key=photo.key,
        identity=photo.identity,
        bucket=bucket,
        source=photo.source,
        sha256=photo.sha256,
        status=status,
        stage=reason.stage,
        reason=reason.reason or None,
        value=reason.value,
        threshold=reason.threshold,
        duplicate_of=reason.detail if reason.reason == "duplicate" else None,
        detail=None if reason.reason == "duplicate" else reason.detail,
        num_bytes=photo.num_bytes,
        licence=photo.licence,
        author=photo.author,
        page_url=photo.page_url,
        image_url=photo.image_url,
        fetched_at=photo.fetched_at,
        signals=", ".join(photo.signals),
        attribution=photo.attribution,
        final_url=photo.final_url,
        http_status=photo.http_status,
        content_type=photo.content_type,
        etag=photo.etag,
        last_modified=photo.last_modified,
        user_agent=photo.user_agent,
    )
