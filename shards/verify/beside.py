"""What stands beside the shards and must agree with them: ledger, identities, tombstones, cached features.

Each is checked where it is there. Knows nothing of what is in a sample.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from crawl.errors import InputError
from crawl.output import Output
from crawl.tombstones import FILE as TOMBSTONES
from crawl.tombstones import read_tombstones
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import read_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import NotConserved, funnel, read_ledger
from shards.features.feature import FOLDER as FEATURES
from shards.features.feature import INDEX as FEATURE_INDEX
from shards.features.feature import feature_output, read_made_from
from shards.format.checksum import Both
from shards.format.index import Index, read_index
from shards.format.tar import ShardError, regions

STATUSES = ("kept", "rejected", "failed", "removed")
INTENT = ".takedown.json"


def problems_beside(output: Output, index: Index) -> Iterator[str]:
    """One line each."""
    if output.exists(INTENT):
        yield f"{INTENT}: a takedown was interrupted: run it again"
    if output.exists(LEDGER):
        yield from _ledger_problems(output, index)
    if output.exists(TOMBSTONES):
        yield from _tombstone_problems(output, index)
    for name in output.folders(FEATURES):
        yield from _feature_problems(output, name, index)


def _ledger_problems(output: Output, index: Index) -> Iterator[str]:
    try:
        ledger = read_ledger(output, ["key", "identity", "status", "stage", "reason"])
        people = read_identities(output) if output.exists(IDENTITIES) else []
    except (pa.ArrowException, OSError, TypeError) as error:
        yield f"{LEDGER}, {IDENTITIES}: cannot be read: {str(error).splitlines()[0][:200]}"
        return
    keys, identities, statuses = (ledger[name].to_pylist() for name in ("key", "identity", "status"))
    kept = {k: i for k, i, status in zip(keys, identities, statuses, strict=True) if status == "kept"}
    packed = {row.key: row.identity for row in index.rows()}
    for key in sorted(kept.keys() ^ packed.keys())[:20]:
        where = "in the index and not kept here" if key in packed else "kept here and not in the index"
        yield f"{LEDGER}: {key} is {where}"
    for key in sorted(k for k in kept.keys() & packed.keys() if kept[k] != packed[k])[:20]:
        yield f"{LEDGER}: {key} is of {kept[key]}, in the index of {packed[key]}"
    told = [key for key in keys if key]  # a published ledger keeps the keys of what is not kept to itself
    if len(set(told)) < len(told):
        yield f"{LEDGER}: a key is there twice"
    for status in sorted(set(statuses) - set(STATUSES)):
        yield f"{LEDGER}: status {status!r} is none of {', '.join(STATUSES)}"
    try:
        funnel(ledger.filter(pc.not_equal(ledger["status"], "removed")))
    except NotConserved as error:
        yield f"{LEDGER}: {error}"
    found, of_person = Counter(identities), Counter(kept.values())
    for person in (p for p in people if p.identity):
        photos = person.photos if len(told) < len(keys) else found[person.identity]
        if (person.photos, person.kept) != (photos, of_person[person.identity]):
            yield (
                f"{IDENTITIES}: {person.identity} has {person.photos} photos, {person.kept} kept; "
                f"the ledger {found[person.identity]}, {of_person[person.identity]}"
            )


def _tombstone_problems(output: Output, index: Index) -> Iterator[str]:
    try:
        tombstones = read_tombstones(output)
    except InputError as error:
        yield str(error)
        return
    if tombstones.version != index.version:
        yield f"{TOMBSTONES}: version {tombstones.version}, the index says {index.version}"
    people = {i.identity for i in read_identities(output)} if output.exists(IDENTITIES) else set()
    for identity in sorted(people | index.identities.keys()):
        if tombstones.person(identity):
            yield f"{identity} was taken down, and is still in {IDENTITIES if identity in people else 'the index'}"


def _feature_problems(output: Output, name: str, base: Index) -> Iterator[str]:
    """An unfinished feature is none, and no fault."""
    folder, place = feature_output(output.url, name), f"{FEATURES}/{name}"
    if not folder.exists(FEATURE_INDEX):
        return
    try:
        made_from, index = read_made_from(folder), read_index(folder, FEATURE_INDEX)
    except InputError as error:
        yield str(error)
        return
    shards = {shard.file: shard.sha256 for shard in base.shards}
    if made_from is None or dict(made_from.shards) != shards:
        yield f"{place}: not made from the shards as they are now"
    elif [(r.shard, r.identity, r.key) for r in index.rows()] != [(r.shard, r.identity, r.key) for r in base.rows()]:
        yield f"{place}: its index has other samples than the dataset's"
    else:
        for number in range(len(index.shards)):
            yield from _feature_tar_problems(folder, place, index, number)


def _feature_tar_problems(folder: Output, place: str, index: Index, number: int) -> Iterator[str]:
    shard, positions = index.shards[number], index.positions_in(number)
    name = f"{place}/{shard.file}"
    try:
        with folder.open(shard.file) as file:
            found = list(regions(file, file.seek(0, io.SEEK_END), name))
            file.seek(0)
            checksums = Both()
            while chunk := file.read(1 << 20):
                checksums.update([chunk])
    except FileNotFoundError:
        yield f"{name}: is missing"
        return
    except ShardError as error:
        yield str(error)
        return
    if checksums.sha256 != shard.sha256:
        yield f"{name}: its sha256 is {checksums.sha256}, its index says {shard.sha256}"
    expected = [(index.keys[p].decode(), int(index.offsets[p]), int(index.num_bytes[p])) for p in positions]
    if found != expected:
        yield f"{name}: its samples are not where its index has them"
