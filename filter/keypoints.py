"""Twelve body keypoints: what a pose is, what pose models promise, and where it lies in a crop.

Coordinates of a Pose are pixels of the upright photo, as in `faces`. Knows no model, no file and no stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image as PILImage

from crawl.photo import Rejection
from filter.crop import Square, into_crop
from filter.faces import Face, Point

STAGE = "pose"
NAMES = (
    "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
    "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
"""COCO's keypoints 5–16, in COCO's order; left and right are the person's own."""
BONES = ((0, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7), (6, 8), (8, 10), (7, 9), (9, 11))
"""Pairs of keypoints that a picture joins."""
VISIBLE = 0.5
"""A point with at least this score can be seen."""


@dataclass(frozen=True, slots=True)
class Pose:
    """The body that belongs to one face."""

    keypoints_px: tuple[Point, ...]
    """12 points in order of `NAMES`; may lie outside the photo."""
    scores: tuple[float, ...]
    """How surely each can be seen, 0–1."""


class PoseEstimator(Protocol):
    """Finds bodies. Loaded once per worker, used from one thread."""

    def estimate(self, photos: Sequence[PILImage.Image], faces: Sequence[Face]) -> list[Pose | Rejection]:
        """One answer an upright photo (mode RGB): the pose of the person whose face it is, or why there is none.

        However many others are in it.
        """
        ...


def in_crop(pose: Pose, square: Square, size_px: int) -> tuple[tuple[Point, ...], tuple[float, ...]]:
    """Keypoints and scores in pixels of the crop resized to `size_px`.

    A point outside the crop keeps its place, since a limb leads there, and has score 0: it cannot be seen.
    """
    points = into_crop(pose.keypoints_px, square, size_px)
    inside = [0 <= x <= size_px and 0 <= y <= size_px for x, y in points]
    return points, tuple(score if seen else 0.0 for score, seen in zip(pose.scores, inside, strict=True))
