"""PhotoMaker's rule as its paper gives it (arXiv:2312.04461, data pipeline): for the record.

A face's score is the sum of its similarities to the name's other faces; the best face of each photo stays,
scores are recomputed, δ is their standard deviation. Read as "drop what lies 8δ below the mean" it can
drop nothing in groups of 65 or fewer: |x − mean| ≤ δ√(n − 1) for any n numbers.
"""

from __future__ import annotations

import numpy as np

from filter.faces import Embeddings
from filter.rules.group import NO_FACE, Decision, Floats, Group, Limits, nobody

DELTAS = 8.0


def photomaker_8delta(group: Group, limits: Limits) -> Decision:
    """Keep the best face of each photo unless its score is more than 8δ below the mean."""
    best = group.best_face(sums_of_similarities(group.embeddings))
    scores = sums_of_similarities(group.embeddings[best])
    least = float(scores.mean() - DELTAS * scores.std())
    below = (scores < least) & ~np.isclose(scores, least, rtol=1e-9)  # on the bound is not below it
    chosen = np.where(below, NO_FACE, best)
    return Decision(chosen, scores, np.full(group.photos, least), nobody(group.photos))


def sums_of_similarities(embeddings: Embeddings) -> Floats:
    """Each row's inner products with all other rows, summed: x·Σ − x·x, in O(n·d)."""
    x = embeddings.astype(np.float64)
    return np.asarray(x @ x.sum(axis=0) - np.einsum("fd,fd->f", x, x))
