"""`python -m shards split` and `sample`: one dataset in parts that share no person, and a small one to show around.

A person is on one side with all names that may be theirs: names that were found to be one person, whose centres are
near, or that have a photo in common. Chance is a hash of seed and key, so that the same command gives the same parts.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from crawl.errors import InputError
from filter.doubles import same_person_cosine
from filter.names import near_pairs
from shards.beside.ledger import LedgerRow
from shards.derive.subset import Chosen, Material, kept_rows, write_dataset

SIDES = ("train", "val", "test")


def split(url: str, output: str, shares: Mapping[str, float], seed: int) -> dict[str, tuple[int, int]]:
    """Write `output/SIDE` for each side with a share; side → (people, samples). Raises InputError for wrong shares."""
    wanted = {side: share for side, share in shares.items() if share > 0}
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(
            f"--train, --val and --test must be shares of 0–1 that add up to 1, not {list(shares.values())}"
        )
    material = Material(url)
    kept = {row.identity for row in kept_rows(material.ledger)}
    everybody = one_person_groups(material)
    groups = [shown for group in everybody if (shown := [i for i in group if i in kept])]
    if len(groups) < len(wanted):
        raise InputError(f"{url}: {len(groups)} people that share nothing: too few for {len(wanted)} sides")
    of_kept = _sides(groups, wanted, seed)
    sides = {i: side for group in everybody for i in group if (side := _side_of(group, of_kept))}
    written = {}
    for side in wanted:
        ledger = [row for row in material.ledger if sides.get(row.identity, next(iter(wanted))) == side]
        history = {"command": "split", "side": side, "shares": wanted, "seed": seed, "from": [material.history()]}
        written[side] = _write(f"{output.rstrip('/')}/{side}", material, ledger, history)
    return written


def sample(url: str, output: str, identities: int, photos: int, seed: int) -> tuple[int, int]:
    """Write a dataset of at most so many people and photos of each; (people, samples)."""
    if identities < 1 or photos < 1:
        raise InputError("--identities and --photos: at least 1")
    material = Material(url)
    by_person: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in kept_rows(material.ledger):
        by_person[row.identity].append(row)
    chosen = sorted(by_person, key=lambda identity: _chance(seed, identity))[:identities]
    ledger = [row for i in chosen for row in sorted(by_person[i], key=lambda row: _chance(seed, row.key))[:photos]]
    history = {"command": "sample", "identities": identities, "photos": photos, "seed": seed}
    return _write(output, material, ledger, {**history, "from": [material.history()]})


def _write(url: str, material: Material, ledger: Sequence[LedgerRow], history: Mapping[str, object]) -> tuple[int, int]:
    there = {row.identity for row in ledger}
    people = [person for person in material.people if person.identity in there]
    keys = [row.key for row in kept_rows(ledger)]
    samples = dict.fromkeys(keys, material)
    write_dataset(url, Chosen(material.run, ledger, people, material.tombstones, samples, history=history))
    return len({row.identity for row in kept_rows(ledger)}), len(keys)


def one_person_groups(material: Material) -> list[list[str]]:
    """The identities, those that may be one person together; in order of their keys."""
    identities = sorted({person.identity for person in material.people} | material.dataset.index.identities.keys())
    leader = {identity: identity for identity in identities}

    def find(identity: str) -> str:
        while leader[identity] != identity:
            leader[identity] = identity = leader[leader[identity]]
        return identity

    for one, other in _links(material):
        if one in leader and other in leader:
            first, second = sorted((find(one), find(other)))
            leader[second] = first
    groups: dict[str, list[str]] = defaultdict(list)
    for identity in identities:
        groups[find(identity)].append(identity)
    return list(groups.values())


def _links(material: Material) -> Iterable[tuple[str, str]]:
    for person in material.people:
        if person.same_as is not None:
            yield person.identity, person.same_as
    owner: dict[str, str] = {}
    for row in material.ledger:
        if row.sha256 and row.status == "kept":
            yield owner.setdefault(row.sha256, row.identity), row.identity
    yield from near_pairs(material.centres(), same_person_cosine(material.run.filter))


def _sides(groups: Sequence[list[str]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Identity → side: groups in the order of chance, each to the side that lacks most people."""
    total = sum(map(len, groups))
    lacking = {side: share * total for side, share in shares.items()}
    empty = set(shares)
    sides: dict[str, str] = {}
    ordered = sorted(groups, key=lambda group: _chance(seed, group[0]))
    for number, group in enumerate(ordered):
        must_fill = len(ordered) - number <= len(empty)
        side = max(empty if must_fill else lacking, key=lambda side: (lacking[side], side))
        lacking[side] -= len(group)
        empty.discard(side)
        sides |= dict.fromkeys(group, side)
    return sides


def _side_of(group: Iterable[str], sides: Mapping[str, str]) -> str | None:
    """Somebody without a kept photo is on the side of the others of the group, if there are any."""
    return next((sides[identity] for identity in group if identity in sides), None)


def _chance(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a finished dataset: folder or URL")
    parser.add_argument("output", help="a new folder or URL: OUTPUT/train, OUTPUT/val, OUTPUT/test")
    for side, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        parser.add_argument(f"--{side}", type=float, default=share, help=f"share of the people, 0–1 (default {share})")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(command=_split_command)


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a finished dataset: folder or URL")
    parser.add_argument("output", help="a new folder or URL")
    parser.add_argument("--identities", type=int, required=True, help="people, at most")
    parser.add_argument("--photos", type=int, required=True, help="photos of each, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(command=_sample_command)


def _split_command(parsed: argparse.Namespace) -> int:
    shares = {side: getattr(parsed, side) for side in SIDES}
    for side, (people, samples) in split(parsed.dataset, parsed.output, shares, parsed.seed).items():
        print(f"{parsed.output.rstrip('/')}/{side}: {samples} samples of {people} people")
    return 0


def _sample_command(parsed: argparse.Namespace) -> int:
    people, samples = sample(parsed.dataset, parsed.output, parsed.identities, parsed.photos, parsed.seed)
    print(f"{parsed.output}: {samples} samples of {people} people")
    return 0
