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
