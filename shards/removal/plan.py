"""From requests to an intent: whom and what they mean in this dataset, what is the same, and what must be redone.

Reads everything, changes nothing: `--dry-run` ends here.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from crawl.errors import InputError
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo, bucket_of
from crawl.tables import Tables, table_numbers
from crawl.tombstones import TAKEN_DOWN, Item, Tombstones, read_tombstones
from crawl.wanted import LISTED
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import read_identities
from shards.beside.ledger import read_ledger
from shards.config import BuildRun
from shards.format.index import INDEX, read_index
from shards.removal.intent import Gone, Intent
from shards.removal.known import Known, known_photos
from shards.removal.reach import Reach, answers_to, reach
from shards.removal.request import Request
from shards.removal.truth import dataset_is_finished, true_tables, true_targets


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done; `intent` is None when all of it was done before."""

    intent: Intent | None
    names: Mapping[str, str]
    """Forgotten identity → name, where it is known."""
    aliases: tuple[str, ...]
    """Identities that go because they show the same person as one that was asked for."""
    already: tuple[Request, ...]
    """Requests that an earlier takedown has met."""
    photos: tuple[str, ...]
    """Each row that goes: key, identity, where it came from."""
    local: int
    """Photos that also lie in folders of the user's."""


def plan(
    output: Output, run: BuildRun | None, requests: Sequence[Request], with_aliases: bool, keys: Collection[str] = ()
) -> Plan:
    """`run`: of a folder with tables. `keys`: photos to take down besides. Raises InputError for what is not there."""
    tombstones = read_tombstones(output)
    photos = known_photos(output, run.shards.buckets if run else None)
    names = _names(output, run)
    asked = [_by_name(request, names) for request in requests]
    there: set[Item] = {item for photo in photos for item in answers_to(photo)}
    there |= {("identity", identity) for identity in names}
    new = [request for request in asked if request.item in there]
    already = [request for request in asked if request not in new and _is_met(request, tombstones)]
    for request in asked:
        if request not in new and request not in already:
            raise InputError(f"{request.said}: no such {request.kind} in {output.url}; nothing was changed")
    named = {request.text for request in new if request.kind == "identity"}
    aliases = _aliases(output, named) if with_aliases else set()
    identities = named | aliases
    also = [Request("sha256", p.sha256, p.sha256) for p in photos if p.key in keys]
    found = reach(photos, [*new, *also], identities)
    intent = None
    if new or also:
        intent = _intent(output, run, new, found, photos, identities, names, tombstones)
    forgotten = {identity: names[identity] for identity in sorted(identities) if identity in names}
    listed = tuple(f"{p.key} {p.identity} {p.source}" for p in found.rows if p.key)
    local = sum(p.local and bool(p.key) for p in found.rows) if run else 0
    return Plan(intent, forgotten, tuple(sorted(aliases)), tuple(already), listed, local)


def _intent(
    output: Output,
    run: BuildRun | None,
    requests: Sequence[Request],
    found: Reach,
    photos: Iterable[Known],
    identities: Collection[str],
    names: Mapping[str, str],
    tombstones: Tombstones,
) -> Intent:
    index = read_index(output) if output.exists(INDEX) else None
    going = {id(p) for p in found.rows}
    needed = {p.file for p in photos if id(p) not in going}
    removed = _removed(output, run, found, identities)
    words = {*identities, *(names[i] for i in identities if i in names), *(p.key for p in found.rows)}
    pages_left = {p.page_url for p in photos if id(p) not in going}
    for photo in found.photos:
        words |= {photo.sha256, photo.source, *photo.addresses, *({photo.page_url or ""} - pages_left)}
    if run is not None:
        words |= _crop_hashes(output, {p.key: p.bucket for p in found.rows if p.key})
    return Intent(
        asked=tuple(map(str, requests)),
        gone=tuple(Gone(p.key, p.identity, p.bucket, p.kept) for p in found.rows),
        identities=tuple(sorted(identities)),
        words=tuple(sorted(words - {""})),
        files=tuple(sorted({p.file for p in found.rows} - needed - {""})),
        version=max(tombstones.version, index.version if index else 1) + 1,
        items=tuple(found.items(requests, identities)),
        removed=removed,
        true_tables=true_tables(run, output, map(int, removed)) if run else {},
        true_targets=true_targets(run, output) if run else (),
        shards={shard.file: shard.sha256 for shard in index.shards} if index else {},
        finished=dataset_is_finished(run, output) if run else True,
    )


def _removed(
    output: Output, run: BuildRun | None, found: Reach, identities: Collection[str]
) -> dict[str, dict[str, int]]:
    """Per bucket how many rows stand for what was taken down, those of before and those of now."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for photo in found.rows:
        if photo.key:
            forgotten = photo.identity in identities
            elsewhere = forgotten and run is not None and not photo.local  # as `crawl.found` counts them
            bucket = bucket_of("", run.shards.buckets) if elsewhere and run else photo.bucket
            counts[bucket]["" if forgotten else photo.identity] += 1
            counts[photo.bucket] += Counter()
    for bucket, identity in _removed_before(output, run):
        if bucket in counts:
            counts[bucket]["" if identity in identities else identity] += 1
    return {str(bucket): dict(sorted(by.items())) for bucket, by in sorted(counts.items())}


def _removed_before(output: Output, run: BuildRun | None) -> Iterable[tuple[int, str]]:
    if run is None:
        for row in read_ledger(output, ["bucket", "identity", "status"]).to_pylist():
            if row["status"] == "removed":
                yield row["bucket"], row["identity"]
        return
    tables = Tables(output)
    for bucket in range(run.shards.buckets):
        for entry in tables.read("crawl", bucket, Photo):
            if entry.row is not None and entry.rejection is not None and entry.rejection.reason == TAKEN_DOWN:
                yield bucket, entry.row.identity


def _crop_hashes(output: Output, buckets: Mapping[str, int]) -> set[str]:
    """SHA-256 of the crops that a model was shown: by them its replies are kept."""
    found: set[str] = set()
    for bucket in sorted({*buckets.values()} - {-1}):
        name = f"tables/crop/{bucket:05d}.parquet"
        if output.exists(name):
            with output.open(name) as file, pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=64, columns=["key", "row.image_jpeg"]):
                    for row in batch.to_pylist():
                        if row["key"] in buckets and row["row"] and row["row"]["image_jpeg"]:
                            found.add(hashlib.sha256(row["row"]["image_jpeg"]).hexdigest())
    return found


def _names(output: Output, run: BuildRun | None) -> dict[str, str]:
    """Identity → name, of everybody whom the dataset names anywhere."""
    names: dict[str, str] = {}
    if output.exists(IDENTITIES):
        names |= {i.identity: i.name for i in read_identities(output)}
    tables = Tables(output)
    for folder in (LISTED, "people", "found-people") if run is not None else ():
        for number in table_numbers(output, folder):
            people = (e.row for e in tables.read(folder, number, Person) if e.row is not None)
            names |= {person.identity: person.name for person in people}
    return names


def _by_name(request: Request, names: Mapping[str, str]) -> Request:
    """A name is looked for as it is written in the dataset, whatever its key."""
    if request.kind != "identity" or request.text in names:
        return request
    keys = [identity for identity, name in names.items() if name == request.said]
    return Request("identity", request.said, keys[0]) if keys else request


def _is_met(request: Request, tombstones: Tombstones) -> bool:
    if request.kind == "identity":
        return tombstones.person(request.text)
    if request.kind == "sha256":
        return tombstones.content(request.text)
    return tombstones.address(request.text if request.kind == "url" else f"http://{request.text}/")


def _aliases(output: Output, named: Collection[str]) -> set[str]:
    """Other identities that the cross-name check found to be the same person."""
    if not output.exists(IDENTITIES) or not named:
        return set()
    pairs = [(i.identity, i.same_as) for i in read_identities(output) if i.same_as is not None]
    same = set(named)
    while more := {x for pair in pairs if same & {*pair} for x in pair if x} - same:
        same |= more
    return same - set(named)
