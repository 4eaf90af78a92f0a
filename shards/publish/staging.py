"""The clean copy of a dataset that is published: a folder beside it, of hard links where the disk can.

Only what is on its list gets there, so what nobody thought of stays behind. Every shard is read once, checked against
its sha256, and refused when a sample holds features or names its person. Knows nothing of the Hub.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crawl.errors import InputError
from crawl.output import Output
from crawl.tables import arrow_schema, to_record
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import Identity, read_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import read_ledger
from shards.beside.resolved import write_resolved
from shards.card.facts import Facts, carry, gather, read_carried
from shards.card.write import write_card
from shards.config import BuildRun
from shards.format.index import FOLDER, INDEX, Index, read_index
from shards.format.sample import Sample
from shards.format.tar import ShardError
from shards.publish.naming import holds_name
from shards.publish.public import public_identities, public_ledger, public_settings
from shards.read import Dataset

MARK = ".staged"
"""In the folder as long as it is ours to throw away."""
LEFT = {
    "photos": "the originals",
    "tables": "working tables: embeddings of faces, answers of sites, replies of models",
    "features": "embeddings and latents of the photos",
    "report.html": "shows rejected photos, and names",
    "tombstones.json": "hashes of what was taken down, by which guesses can be tested",
}
"""What stays behind, and why."""
_OTHER = "no part of a published dataset"
_CAPTION = ("general", "background", "body")
_FEW = 3


@dataclass(frozen=True, slots=True)
class Left:
    """Something of the dataset folder that is not published."""

    name: str
    files: int
    num_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class Staged:
    """A finished copy."""

    folder: Path
    facts: Facts
    """Of the copy."""
    files: Mapping[str, int]
    """Path in the folder → bytes, in order."""
    left: tuple[Left, ...]


def stage(run: BuildRun, output: Output, repo: str, folder: Path) -> Staged:
    """Make the copy. Raises InputError for what must not be published, and leaves no copy then."""
    index = read_index(output)
    people, facts, copy = read_identities(output), gather(run, output), Output(os.fspath(folder))
    _clear(folder)
    _link_shards(output, index, folder)
    try:
        _check_samples(copy, {} if run.publish.names else {p.identity: p.name for p in people})
    except InputError:
        shutil.rmtree(folder)
        raise
    carried = read_carried(output) or carry(run, output, facts.made_by)
    _write_table(copy, LEDGER, public_ledger(read_ledger(output), carried))
    _write_table(copy, IDENTITIES, _table(public_identities(people, index.identities, run.publish.names)))
    published = public_settings(run, repo, facts.version)
    write_resolved(published, copy)
    write_card(published, copy)
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MARK)
    files = {path: (folder / path).stat().st_size for path in paths}
    return Staged(folder, gather(published, copy), files, tuple(_left(output, files)))


def default_folder(output: Output) -> Path:
    """Beside the dataset, so that links can be made. Raises InputError for a dataset that is not on this machine."""
    if not output.is_local:
        raise InputError(f"{output.url}: is not on this machine: name a local folder with --staging")
    return Path(output.path("").rstrip("/") + ".publish")


def _check_samples(output: Output, names: Mapping[str, str]) -> None:
    """Raises InputError when a sample may not go out."""
    named = []
    try:
        with Dataset(output.url, verify="sha256") as dataset:
            for sample in dataset.stream():
                if sample.features:
                    raise InputError(f"{sample.key}.{min(sample.features)}.npy: features are never published")
                named += [f"{sample.key} ({field})" for field in _naming_fields(sample, names.get(sample.identity, ""))]
    except ShardError as error:
        raise InputError(str(error)) from None
    if named:
        more = f" and {len(named) - _FEW} more" if len(named) > _FEW else ""
        raise InputError(
            f"{len(named)} fields of samples hold the name of the person: {', '.join(named[:_FEW])}{more}. Where a "
            "licence asks for these addresses and authors, set publish.names: true and say why in publish.names_reason"
        )


def _naming_fields(sample: Sample, name: str) -> list[str]:
    texts = {field: value for field, value in sample.metadata.items() if isinstance(value, str)}
    return [field for field, text in texts.items() if holds_name(name, text, in_order=field in _CAPTION)]


def _clear(folder: Path) -> None:
    """An empty folder of ours. Raises InputError when somebody else's files are in it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; the copy to publish needs a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise InputError(f"{folder}: is not empty, and no copy of ours: name another folder with --staging")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / FOLDER).mkdir(parents=True)
    (folder / MARK).touch()


def _link_shards(output: Output, index: Index, folder: Path) -> None:
    for name in [INDEX, *(f"{FOLDER}/{shard.file}" for shard in index.shards)]:
        if output.is_local:
            try:
                os.link(output.path(name), folder / name)
                continue
            except OSError:
                pass  # another disk, or one that has no links
        with output.open(name) as source, open(folder / name, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _table(identities: list[Identity]) -> pa.Table:
    return pa.Table.from_pylist([to_record(i) for i in identities], schema=arrow_schema(Identity))


def _write_table(copy: Output, name: str, table: pa.Table) -> None:
    with copy.create(name) as file:
        pq.write_table(table, file, compression="zstd")


def _left(output: Output, files: Mapping[str, int]) -> list[Left]:
    """What is in the dataset folder and not in the copy."""
    if not output.is_local:
        names = [name for name in output.names("") if name not in files]
        return [Left(name, 1, output.size(name), LEFT.get(name, _OTHER)) for name in names]
    root, found = Path(output.path("")), []
    for entry in sorted(root.iterdir()):
        inside = [entry] if entry.is_file() else [p for p in entry.rglob("*") if p.is_file()]
        behind = [p.stat().st_size for p in inside if p.relative_to(root).as_posix() not in files]
        if behind:
            found.append(Left(entry.name, len(behind), sum(behind), LEFT.get(entry.name, _OTHER)))
    return found
