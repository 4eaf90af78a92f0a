"""All photos that a dataset knows, as a takedown needs to see them: from the tables of a build, or from the ledger.

Knows nothing of what is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from crawl.fetching.journal import read_journal
from crawl.output import Output
from crawl.photo import Photo, Rejection, identity_key
from crawl.returned import FETCH
from crawl.tables import Tables
from crawl.tombstones import TAKEN_DOWN
from filter.duplicates import DUPLICATE
from filter.rules.settle import STAGE as VERIFY
from shards.beside.ledger import read_ledger

_LEDGER = (
    "key", "identity", "bucket", "source", "sha256", "status", "reason", "duplicate_of", "page_url", "image_url",
    "final_url",
)  # fmt: skip


ANOTHER_PERSON = ("not_this_person", "second_person")
"""What verification says of photos of somebody else."""


@dataclass(frozen=True, slots=True)
class Known:
    """One photo of one name."""

    key: str
    identity: str
    bucket: int
    sha256: str
    file: str
    """Of the original, in `photos/`."""
    addresses: tuple[str, ...]
    page_url: str | None
    source: str
    local: bool
    """From a folder of the user's, not from the network."""
    kept: bool
    shows: bool
    """False when verification says that it does not show the named person."""
    duplicate_of: str | None = None
    dhashes: tuple[int, ...] = ()


def known_photos(output: Output, buckets: int | None) -> list[Known]:
    """`buckets`: of a folder with tables; None for one that has only what is published."""
    if buckets is None:
        return list(_of_ledger(output))
    tables = Tables(output)
    photos = [photo for bucket in range(buckets) for photo in _of_bucket(tables, output, bucket)]
    return [*photos, *_fetched(output)]


def _of_bucket(tables: Tables, output: Output, bucket: int) -> Iterator[Known]:
    scanned = tables.rejections("scan", bucket)
    verified = tables.rejections(VERIFY, bucket)
    kept, dhashes = tables.rejections("shards", bucket).keys(), _dhashes(output, bucket)
    original = {key: r.detail for key, r in scanned.items() if r is not None and r.reason == DUPLICATE}
    for entry in tables.read("crawl", bucket, Photo):
        if entry.row is not None and not _is_taken_down(entry.rejection):
            first = _first(entry.key, original)
            yield Known(
                key=entry.key,
                identity=entry.row.identity,
                bucket=bucket,
                sha256=entry.row.sha256,
                file=_file(entry.row.sha256, entry.row.suffix),
                addresses=_there(entry.row.image_url, entry.row.final_url),
                page_url=entry.row.page_url,
                source=entry.row.source,
                local=entry.row.image_url is None,
                kept=entry.key in kept,
                shows=_shows(verified.get(first)),
                duplicate_of=original.get(entry.key),
                dhashes=dhashes.get(entry.key, ()),
            )


def _first(key: str, original: dict[str, str | None]) -> str:
    """The photo that this one is, in the end, a duplicate of."""
    while (before := original.get(key)) is not None:
        key = before
    return key


def _shows(rejection: Rejection | None) -> bool:
    return rejection is None or rejection.reason not in ANOTHER_PERSON


def _is_taken_down(rejection: Rejection | None) -> bool:
    return rejection is not None and rejection.reason == TAKEN_DOWN


def _dhashes(output: Output, bucket: int) -> dict[str, tuple[int, ...]]:
    name = f"tables/scan/{bucket:05d}.parquet"
    if not output.exists(name):
        return {}
    with output.open(name) as file, pq.ParquetFile(file) as parquet:
        columns = ["key", "row.measures.dhash", "row.measures.mirrored_dhash"]
        rows = parquet.read(columns=columns).to_pylist()
    measures = {row["key"]: (row["row"] or {}).get("measures") for row in rows}
    return {key: (m["dhash"], m["mirrored_dhash"]) for key, m in measures.items() if m and m["dhash"] is not None}


def _fetched(output: Output) -> Iterator[Known]:
    """What was fetched, also what no bucket has yet."""
    for name in output.names(FETCH):
        if name.endswith(".parquet"):
            with output.open(f"{FETCH}/{name}") as file, pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=256):
                    yield from map(_of_fetch, batch.to_pylist())
        elif name.endswith(".journal") and output.is_local:
            for line in read_journal(output.path(f"{FETCH}/{name}")):
                yield _of_fetch(json.loads(json.dumps(line["row"])))


def _of_fetch(row: dict[str, object]) -> Known:
    target: dict[str, str] = row["target"]  # type: ignore[assignment]
    rejection: dict[str, str] = row["rejection"] or {}  # type: ignore[assignment]
    moved = rejection.get("detail") if rejection.get("reason") == "moved" else None
    stored = bool(row["sha256"]) and not rejection
    return Known(
        key="",
        identity=identity_key(target["name"]),
        bucket=-1,
        sha256=str(row["sha256"]),
        file=_file(str(row["sha256"]), str(row["suffix"])) if stored else "",
        addresses=_there(target["image_url"], row["final_url"], moved),
        page_url=target["page_url"],
        source=target["image_url"],
        local=False,
        kept=False,
        shows=True,
    )


def _of_ledger(output: Output) -> Iterator[Known]:
    for row in read_ledger(output, _LEDGER).to_pylist():
        if row["status"] != "removed":
            yield Known(
                key=row["key"],
                identity=row["identity"],
                bucket=row["bucket"],
                sha256=row["sha256"],
                file="",
                addresses=_there(row["image_url"], row["final_url"]),
                page_url=row["page_url"],
                source=row["source"],
                local=True,
                kept=row["status"] == "kept",
                shows=row["reason"] not in ANOTHER_PERSON,
                duplicate_of=row["duplicate_of"],
            )


def _there(*urls: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(url) for url in urls if url))


def _file(sha256: str, suffix: str) -> str:
    return f"photos/{sha256[:2]}/{sha256}.{suffix}" if sha256 else ""
