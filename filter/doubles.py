"""Reads every identity's centre and hands them to the cross-name check: the one step that sees all buckets."""

from __future__ import annotations

from crawl.output import Output
from crawl.tables import Tables
from filter.config import FilterConfig, FilterRun
from filter.decide import IDENTITIES
from filter.models import EMBEDDERS
from filter.names import Finding, same_person
from filter.verify import IdentityFinding


def find_doubles(run: FilterRun, output: Output) -> dict[str, Finding]:
    """Identities of which a larger one shows the same person; whether they are set aside is the config's choice."""
    tables = Tables(output)
    findings = [
        entry.row
        for bucket in range(run.shards.buckets)
        for entry in tables.read(IDENTITIES, bucket, IdentityFinding)
        if entry.row is not None
    ]
    found = same_person(findings, same_person_cosine(run.filter))
    return {f.identity: f for f in found}


def same_person_cosine(config: FilterConfig) -> float:
    """Two identities whose centres are at least this near are one person."""
    chosen = config.verify.same_person_cosine
    return EMBEDDERS[config.embedder_name].same_person_cosine if chosen is None else chosen
