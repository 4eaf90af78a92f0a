"""HDBSCAN, then the same test against the median centre: the density-based rule to compare `cluster` with."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import HDBSCAN

from filter.rules.group import Decision, Group, Limits
from filter.rules.linkage import largest_label, near_median

_LEAST_CLUSTER = 3


def hdbscan(group: Group, limits: Limits) -> Decision:
    """Keep what is near the median of HDBSCAN's largest cluster; nothing in groups of fewer than three faces.

    Euclidean distance of unit vectors: it orders pairs as the cosine does.
    """
    labels = np.full(len(group.embeddings), -1)
    if len(labels) >= _LEAST_CLUSTER:
        model = HDBSCAN(min_cluster_size=_LEAST_CLUSTER, min_samples=2, allow_single_cluster=True, copy=True)
        labels = model.fit_predict(group.embeddings.astype(np.float64))
    return near_median(group, largest_label(labels), limits)
