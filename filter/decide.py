"""The verify stage: which photos of each identity show the named person.

Reads embeddings, not pixels, so another threshold or rule costs seconds. Two tables: `verify`, one row a
photo, and `identities`, one row a name with its centre and what was found. The rules live in `rules`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crawl.output import Output
from crawl.stage import Tick
from crawl.tables import Entry, Tables, fingerprint
from filter.config import FilterRun
from filter.models import EMBEDDERS
from filter.scan import Scanned
from filter.verify import Candidates, IdentityFinding, verify_identity

VERSION = 1
UPSTREAM = "scan"
IDENTITIES = "identities"


@dataclass(frozen=True, slots=True)
class Verified:
    """Which face of a photo is the named person, and how surely."""

    face_index: int
    score: float
    """Cosine to the identity's centre."""
    kept_by: tuple[str, ...]
    """Every rule that would have kept the photo."""


class VerifyStage:
    """`tables/verify`: Entry[Verified]; `tables/identities`: Entry[IdentityFinding]."""

    name = "verify"

    def __init__(self, run: FilterRun, output: Output) -> None:
        self._config = run.filter
        self._embedder = EMBEDDERS[run.filter.embedder_name]
        self._tables = Tables(output)

    def fingerprint(self, bucket: int) -> str:
        settings = [self._config.verify.model_dump(), dataclasses.asdict(self._embedder)]
        return fingerprint(self.name, VERSION, settings, self._tables.fingerprint(UPSTREAM, bucket))

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        findings: list[Entry[IdentityFinding]] = []
        self._tables.write(self.name, bucket, Verified, self._verify(bucket, findings, tick), fingerprint)
        self._tables.write(IDENTITIES, bucket, IdentityFinding, findings, fingerprint)

    def _verify(self, bucket: int, findings: list[Entry[IdentityFinding]], tick: Tick) -> Iterator[Entry[Verified]]:
        scanned = (e.row for e in self._tables.read(UPSTREAM, bucket, Scanned) if e.row is not None)
        for identity, group in itertools.groupby(scanned, key=lambda s: s.photo.identity):
            candidates = [_candidates(s) for s in group]
            verdict = verify_identity(identity, candidates, self._embedder, self._config.verify)
            findings.append(Entry(identity, verdict.finding))
            for photo in verdict.photos:
                kept = photo.face_index is not None and photo.score is not None and photo.rejection is None
                row = Verified(photo.face_index, photo.score, photo.kept_by) if kept else None  # type: ignore[arg-type]
                yield Entry(photo.key, row, photo.rejection)
            tick(self.name, len(candidates))


def _candidates(scanned: Scanned) -> Candidates:
    embeddings = [f.embedding for f in scanned.faces if f.embedding is not None]
    assert len(embeddings) == len(scanned.faces), "the scan embeds every face that counts"
    return Candidates(
        scanned.photo.key,
        np.stack(embeddings),
        tuple(f.side_px for f in scanned.faces),
        tuple(f.score for f in scanned.faces),
    )
