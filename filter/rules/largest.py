"""No verification: the largest face of every photo. What most pipelines do; the measure of what the others gain."""

from __future__ import annotations

import numpy as np

from filter.rules.group import Decision, Group, Limits, nobody


def largest_face(group: Group, limits: Limits) -> Decision:
    """Keep every photo with its largest face; of equal ones the surer."""
    order = np.lexsort((-group.scores, -group.sides_px, group.photo_of))
    chosen = order[np.searchsorted(group.photo_of, np.arange(group.photos))]
    nothing = np.full(group.photos, np.nan)
    return Decision(chosen, nothing, nothing, nobody(group.photos))
