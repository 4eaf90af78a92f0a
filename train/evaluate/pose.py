"""Pose accuracy: keypoints of a picture against those it should have, x and y in 0–1 of the picture.

`literal` is the BoLID paper's mean squared distance over all twelve points, seen or not; OKS (COCO's) and PCK count
points that both show. Knows no model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from filter.keypoints import NAMES, VISIBLE

Points = npt.NDArray[np.float64]
"""[12, 3]: x, y, visibility, in the order of `filter.keypoints.NAMES`."""
SIGMAS = np.array([0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089])
"""COCO's of shoulders, elbows, wrists, hips, knees, ankles (cocodataset.org, keypoint evaluation)."""
PCK_AT = 0.2
"""Of the torso's diagonal, or, where that is not seen, of the box of the wanted points."""
_TORSO = tuple(NAMES.index(name) for name in ("left shoulder", "right shoulder", "left hip", "right hip"))


def accuracy(found: Points, wanted: Points) -> dict[str, float | None]:
    """`pose_literal` (less is better), `pose_oks`, `pose_pck` (0–1); None where no point is seen in both."""
    distances = np.linalg.norm(found[:, :2] - wanted[:, :2], axis=1)
    both = (found[:, 2] >= VISIBLE) & (wanted[:, 2] >= VISIBLE)
    literal = float((distances**2).sum() / len(NAMES))
    if not both.any():
        return {"pose_literal": literal, "pose_oks": None, "pose_pck": None}
    seen = wanted[wanted[:, 2] >= VISIBLE, :2]
    width, height = seen.max(0) - seen.min(0)
    scale = max(width * height, np.finfo(float).eps)  # OKS: s² is the object's area, k = 2σ
    oks = np.exp(-(distances**2) / (2 * scale * (2 * SIGMAS) ** 2))[both].mean()
    pck = (distances <= PCK_AT * _length(wanted, float(np.hypot(width, height))))[both].mean()
    return {"pose_literal": literal, "pose_oks": float(oks), "pose_pck": float(pck)}


def _length(wanted: Points, box_diagonal: float) -> float:
    """Of the torso: left shoulder to right hip and right shoulder to left hip, the longer; else the box's diagonal."""
    left_shoulder, right_shoulder, left_hip, right_hip = (wanted[i] for i in _TORSO)
    if min(point[2] for point in (left_shoulder, right_shoulder, left_hip, right_hip)) < VISIBLE:
        return box_diagonal
    return float(
        max(
            np.linalg.norm(left_shoulder[:2] - right_hip[:2]),
            np.linalg.norm(right_shoulder[:2] - left_hip[:2]),
        )
    )
