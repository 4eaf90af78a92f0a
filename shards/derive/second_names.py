"""Two names for one person in different datasets, found by the centres of their embeddings where these are at hand.

Knows nothing of photos.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from filter.doubles import same_person_cosine
from filter.names import same_person
from filter.verify import IdentityFinding
from shards.beside.identities import Identity
from shards.derive.subset import Material


def second_names(
    materials: Sequence[Material], people: Sequence[Identity]
) -> tuple[Mapping[str, tuple[str, float]], str]:
    """Identity → (whose second name it is, cosine), found before or now between the datasets; and why not, if not."""
    there = {person.identity for person in people}
    same = {
        p.identity: (p.same_as, p.same_as_cosine or 0.0) for p in people if p.same_as is not None and p.same_as in there
    }
    embedders = {m.run.filter.embedder_name for m in materials}
    centres = [m.centres() for m in materials]
    if len(embedders) > 1 or not all(centres):
        why = "they were made with other embedders" if len(embedders) > 1 else "a dataset has no tables with embeddings"
        return same, f"names were not compared between the datasets: {why}"
    joined = _joined(itertools.chain.from_iterable(centres))
    for finding in same_person([f for f in joined if f.identity in there], same_person_cosine(materials[0].run.filter)):
        same.setdefault(finding.identity, (finding.same_as, finding.cosine))
    return same, ""


def _joined(findings: Iterable[IdentityFinding]) -> list[IdentityFinding]:
    """One centre an identity: the mean of those of the datasets, each as heavy as it has photos."""
    by_identity: dict[str, list[IdentityFinding]] = defaultdict(list)
    for finding in findings:
        by_identity[finding.identity].append(finding)
    joined = []
    for several in by_identity.values():
        kept = sum(f.kept for f in several)
        sums = [f.centre * f.kept for f in several if f.centre is not None]
        centre = None
        if sums:
            total = np.stack(sums).sum(axis=0, dtype=np.float64)
            centre = (total / np.linalg.norm(total)).astype(np.float32)
        joined.append(dataclasses.replace(several[0], kept=kept, centre=centre))
    return joined
