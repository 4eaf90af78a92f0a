"""What a takedown is about to do, written down before anything is done: a killed one is ended by the next.

It names what is to go, so it is the last thing to go itself. Knows nothing of how anything is removed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crawl.errors import InputError
from crawl.output import Output
from crawl.tables import from_record
from crawl.tombstones import Item

FILE = ".takedown.json"


@dataclass(frozen=True, slots=True)
class Gone:
    """A row that goes."""

    key: str
    """"" for what was fetched and is in no bucket yet."""
    identity: str
    bucket: int
    kept: bool
    """Whether it is in the shards."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Everything that the steps of a takedown need; each step may be done again."""

    asked: tuple[str, ...]
    """The requests, in words."""
    gone: tuple[Gone, ...]
    identities: tuple[str, ...]
    """Identities that are forgotten altogether."""
    words: tuple[str, ...]
    """What may be mentioned nowhere any more: keys, hashes, addresses, names."""
    files: tuple[str, ...]
    """Originals to be deleted."""
    version: int
    """Of the dataset, afterwards."""
    items: tuple[Item, ...]
    """The tombstones to leave."""
    removed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Bucket → identity, or "" → how many photos of it are taken down, with those of earlier takedowns."""
    true_tables: Mapping[str, list[str]] = field(default_factory=dict)
    """Bucket → stages whose tables were up to date before."""
    true_targets: tuple[str, ...] = ()
    """Numbers of the lists of targets that were up to date before."""
    shards: Mapping[str, str] = field(default_factory=dict)
    """Tar → its SHA-256 before."""
    finished: bool = True
    """Whether the dataset was finished before."""

    @property
    def keys(self) -> set[str]:
        return {gone.key for gone in self.gone if gone.key}

    @property
    def buckets(self) -> list[int]:
        """Buckets in which something changes."""
        return sorted({int(bucket) for bucket in self.removed})


def write_intent(output: Output, intent: Intent) -> None:
    output.write(FILE, json.dumps(dataclasses.asdict(intent)).encode())


def read_intent(output: Output) -> Intent | None:
    """Of a takedown that was interrupted; None when there is none."""
    if not output.exists(FILE):
        return None
    record = json.loads(output.read(FILE))
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    plain["gone"] = tuple(from_record(Gone, gone) for gone in record["gone"])
    plain["items"] = tuple((kind, text) for kind, text in record["items"])
    return Intent(**plain)


def end_intent(output: Output) -> None:
    """Nothing is left to be done."""
    output.remove(FILE)
    output.sync("")


def refuse_half_removed(output: Output) -> None:
    """Raises InputError while a takedown is unfinished."""
    if output.exists(FILE):
        raise InputError(f"{output.url}: a takedown was interrupted here: run python -m shards takedown {output.url}")
