"""Average linkage, then a test against the median centre: a plain rule to compare `cluster` with."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as link

from filter.rules.group import OUT, Decision, Floats, Group, Limits, Rows, nobody


def linkage(group: Group, limits: Limits) -> Decision:
    """Keep what is near the median of the largest average-linkage cluster. Memory: O(faces²)."""
    labels = np.zeros(1, dtype=np.intp)
    if len(group.embeddings) > 1:
        tree = link(group.embeddings.astype(np.float64), method="average", metric="cosine")
        labels = fcluster(tree, t=1.0 - limits.pair_threshold, criterion="distance")
    return near_median(group, largest_label(labels), limits)


def largest_label(labels: Rows) -> Rows:
    """Rows of the most frequent label; of equals the one that comes first. Negative labels are noise."""
    kinds, first, counts = np.unique(labels, return_index=True, return_counts=True)
    order = sorted((-int(c), int(f), int(k)) for k, f, c in zip(kinds, first, counts, strict=True) if k >= 0)
    return np.flatnonzero(labels == order[0][2]) if order else np.zeros(0, dtype=np.intp)


def near_median(group: Group, members: Rows, limits: Limits) -> Decision:
    """Per photo the face nearest to the members' median, where it is near enough."""
    fit: Floats = np.full(len(group.embeddings), OUT)
    if len(members):
        median = np.median(group.embeddings[members].astype(np.float64), axis=0)
        fit = group.embeddings.astype(np.float64) @ (median / np.linalg.norm(median))
    values = fit[group.best_face(fit)]
    least = np.full(group.photos, limits.threshold)
    return Decision(group.choose(fit, limits.threshold), values, least, nobody(group.photos))
