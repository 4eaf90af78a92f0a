"""`python -m shards merge A B … OUTPUT`: several datasets as one.

People are matched by their key, so one name is one person. Photos that lie in several are kept once, with the strictest
licence of their copies; whoever turns out to be somebody else's second name is set aside; what one dataset has taken
down is not in the others' part either. Every decision is a row of the new ledger.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from crawl.errors import InputError
from crawl.photo import Rejection
from crawl.tombstones import TAKEN_DOWN, Tombstones, united
from shards.beside.identities import Identity
from shards.derive.copies import Row, ended, without_copies
from shards.derive.second_names import second_names
from shards.derive.subset import Chosen, Material, write_dataset

_IRRELEVANT = {"output", "engine", "crawl", "shards"}
"""Settings that say nothing of how a sample was made."""


@dataclass(slots=True)
class Merged:
    """What came of it, in counts."""

    samples: int = 0
    people: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Why rows of one dataset are not kept beside another's."""
    notes: list[str] = field(default_factory=list)


def merge(urls: Sequence[str], output: str) -> Merged:
    """Write `output`. Raises InputError for what is no finished dataset, or a folder that holds something."""
    if len(urls) < 2:
        raise InputError("merge: give at least two datasets and a new folder")
    materials = [Material(url) for url in urls]
    merged, tombstones = Merged(), united(m.tombstones for m in materials)
    differences = list(_differences(materials))
    merged.notes += [f"settings differ: {line}" for line in differences]
    photos = [_obeying(photo, tombstones, merged) for photo in _distinct(materials, merged)]
    photos, licences, copies = without_copies(photos, materials)
    merged.outcomes["duplicate"] += copies
    people = _people(materials, tombstones)
    same, note = second_names(materials, people)
    merged.notes += [note] if note else []
    if materials[0].run.filter.verify.set_aside_same_person:
        photos = [_set_aside(photo, same, merged) for photo in photos]
    people = [_named(person, same.get(person.identity)) for person in people]
    samples = {p.row.key: materials[p.place] for p in photos if p.row.status == "kept"}
    licences = {key: licence for key, licence in licences.items() if key in samples}
    history = {"command": "merge", "from": [m.history() for m in materials], "settings_that_differ": differences}
    ledger = [dataclasses.replace(p.row, licence=licences.get(p.row.key, p.row.licence)) for p in photos]
    write_dataset(output, Chosen(materials[0].run, ledger, people, tombstones, samples, licences, history))
    merged.samples = len(samples)
    merged.people = len({p.row.identity for p in photos if p.row.status == "kept"})
    return merged


def _distinct(materials: Sequence[Material], merged: Merged) -> Iterator[Row]:
    """Rows of all; of one photo that several have found in one place, the first that keeps it."""
    first: dict[str, Row] = {}
    for place, material in enumerate(materials):
        for row in material.ledger:
            if row.status == "removed" or not row.key:
                yield Row(row, place)
                continue
            known = first.get(row.key)
            if known is None or (known.row.status != "kept" and row.status == "kept"):
                first[row.key] = Row(row, place)
            merged.outcomes["the same row in several"] += known is not None
    yield from first.values()


def _obeying(photo: Row, tombstones: Tombstones, merged: Merged) -> Row:
    row = photo.row
    if row.status == "removed" or not tombstones:
        forgotten = row.status == "removed" and tombstones.person(row.identity)
        return Row(dataclasses.replace(row, identity=""), photo.place) if forgotten else photo
    gone = tombstones.person(row.identity)
    if not (gone or tombstones.content(row.sha256) or tombstones.address(row.image_url, row.page_url, row.final_url)):
        return photo
    merged.outcomes[TAKEN_DOWN] += 1
    identity = "" if gone else row.identity
    return Row(ended(row, Rejection("crawl", TAKEN_DOWN), "removed", identity), photo.place)


def _people(materials: Sequence[Material], tombstones: Tombstones) -> list[Identity]:
    """Of whom several know, as the first does."""
    people: dict[str, Identity] = {}
    for person in itertools.chain.from_iterable(m.people for m in materials):
        if not tombstones.person(person.identity):
            people.setdefault(person.identity, person)
    return list(people.values())


def _named(person: Identity, same: tuple[str, float] | None) -> Identity:
    other, cosine = same or (None, None)
    return dataclasses.replace(person, same_as=other, same_as_cosine=cosine)


def _set_aside(photo: Row, same: Mapping[str, tuple[str, float]], merged: Merged) -> Row:
    if photo.row.status != "kept" or photo.row.identity not in same:
        return photo
    other, cosine = same[photo.row.identity]
    merged.outcomes["same_as_other_name"] += 1
    reason = Rejection("names", "same_as_other_name", cosine, None, other)
    return dataclasses.replace(photo, row=ended(photo.row, reason, "rejected"))


def _differences(materials: Sequence[Material]) -> Iterator[str]:
    """`filter.size_px: 512 in dataset 1, 1024 in dataset 2`, for all that says how samples are made."""
    flat = [dict(_flat("", m.run.model_dump(mode="json", exclude=_IRRELEVANT))) for m in materials]
    for name in sorted({name for settings in flat for name in settings}):
        values = [settings.get(name) for settings in flat]
        if any(value != values[0] for value in values):
            yield f"{name}: " + ", ".join(f"{v!r} in dataset {n}" for n, v in enumerate(values, start=1))


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    else:
        yield prefix, value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("datasets", nargs="+", metavar="DATASET … OUTPUT", help="finished datasets, then a new folder")
    parser.set_defaults(command=command)


def command(parsed: argparse.Namespace) -> int:
    *datasets, output = parsed.datasets
    merged = merge(datasets, output)
    for note in merged.notes:
        print(f"note: {note}")
    for outcome, count in sorted(merged.outcomes.items()):
        if count:
            print(f"{count} photos: {outcome}")
    print(f"{output}: {merged.samples} samples of {merged.people} people")
    return 0
