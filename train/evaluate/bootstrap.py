"""Means with intervals over identities: pictures of one person are alike, so people are drawn, never pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.data.draws import Draws

RESAMPLES = 2000
_DRAWS = Draws(0)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over pictures, and the 95 % percentile interval over people; none for one person."""

    mean: float
    low: float | None
    high: float | None
    images: int
    people: int


def mean(values: Sequence[float], people: Sequence[str]) -> Mean | None:
    """Of values with the person of each; None without any. The same values give the same interval."""
    if not values:
        return None
    names, owners = np.unique(np.asarray(people), return_inverse=True)
    sums = np.bincount(owners, weights=np.asarray(values, np.float64))
    counts = np.bincount(owners).astype(np.float64)
    centre = float(sums.sum() / counts.sum())
    if len(names) == 1:
        return Mean(centre, None, None, len(values), 1)
    rows = _DRAWS.generator("evaluate bootstrap").integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(sums[rows].sum(1) / counts[rows].sum(1), (0.025, 0.975))
    return Mean(centre, float(low), float(high), len(values), len(names))
