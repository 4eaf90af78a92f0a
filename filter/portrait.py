"""The Portrait row: a photo that shows the named person, cut to the training square.

Knows nothing of how it was decided.
"""

from __future__ import annotations

from dataclasses import dataclass

from crawl.photo import Photo
from filter.faces import Box, Point


@dataclass(frozen=True, slots=True)
class ClassScore:
    """What one classifier says of a photo."""

    name: str
    probability: float
    """0–1."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """A verified photo with its square crop and its face crop, encoded."""

    key: str
    identity: str
    photo: Photo
    height_px: int
    width_px: int
    """Size of the upright photo."""
    crop_xyxy_px: tuple[int, int, int, int]
    """The square, in pixels of the upright photo."""
    size_px: int
    """Side of `image_jpeg`."""
    face_xyxy_px: Box
    """In pixels of `image_jpeg`."""
    landmarks_px: tuple[Point, ...]
    """Five points, in pixels of `image_jpeg`."""
    face_score: float
    faces_in_photo: int
    identity_score: float
    """Cosine to the identity's centre."""
    identity_rule: str
    sharpness: float
    colourfulness: float
    keypoints: tuple[Point, ...] | None
    """12 body points in pixels of `image_jpeg`, as `keypoints.NAMES`; some outside it. None when unknown."""
    keypoint_scores: tuple[float, ...] | None
    """How surely each can be seen in `image_jpeg`, 0–1; 0 outside it."""
    keypoints_reason: str | None
    """Why `keypoints` is None."""
    models: tuple[str, ...]
    """Name and version of what measured this photo."""
    image_jpeg: bytes
    """The square training crop, `size_px` a side."""
    face_jpeg: bytes
    """The reference: the face box made square, plus 20 % on each side."""
    classes: tuple[ClassScore, ...] = ()
    """Of each configured classifier, in its order."""
