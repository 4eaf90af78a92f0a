"""Who is in a dataset and on what ground. The name lives here and in `identities.parquet`, never in shards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """One name that photos were looked for."""

    identity: str
    name: str
    basis: str
    """On what ground this person's photos are collected."""
    source: str
    """Where the name comes from."""
    qid: str | None = None
    """Wikidata's number for the person, such as `Q42`."""
    birth_date: str | None = None
    """As exactly as is known: `1952-03-11`, `1952-03`, `1952`, `195X`."""
    occupation: str | None = None
