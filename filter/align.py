"""Alignment: the similarity transform that brings a face's five landmarks onto a template.

Coordinates are continuous: (0, 0) is the corner of the top-left pixel, its centre (0.5, 0.5). Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from filter.faces import Image, Point

Matrix = npt.NDArray[np.float64]
"""2 × 3: [rotation · scale | translation], applied to column vectors."""

ARCFACE_SIZE_PX = 112
ARCFACE_TEMPLATE: tuple[Point, ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""The five landmarks of a face aligned for ArcFace, in the 112 × 112 crop (order as in `Face.landmarks_px`)."""


def similarity(points: Sequence[Point], onto: Sequence[Point]) -> Matrix:
    """Least-squares rotation, scale and translation, without reflection (Umeyama 1991, closed form in 2-D)."""
    source, target = np.asarray(points, np.float64), np.asarray(onto, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    (x, y), (u, v) = (source - source_mean).T, (target - target_mean).T
    spread = float(x @ x + y @ y)
    assert spread > 0, "landmarks coincide"
    a, b = (x @ u + y @ v) / spread, (x @ v - y @ u) / spread
    rotation = np.array([[a, -b], [b, a]])
    return np.column_stack([rotation, target_mean - rotation @ source_mean])


def inverse(matrix: Matrix) -> Matrix:
    """The transform that undoes `matrix`."""
    rotation = np.linalg.inv(matrix[:, :2])
    return np.column_stack([rotation, -rotation @ matrix[:, 2]])


def aligned(image: Image, landmarks_px: Sequence[Point], size_px: int = ARCFACE_SIZE_PX) -> Image:
    """The face brought onto ArcFace's template, `size_px` a side; black where the photo ends."""
    template = [(x * size_px / ARCFACE_SIZE_PX, y * size_px / ARCFACE_SIZE_PX) for x, y in ARCFACE_TEMPLATE]
    to_photo = inverse(similarity(landmarks_px, template))
    left, top, region = _region(image, to_photo, size_px, shrinkage(to_photo))
    return warped(PillowImage.fromarray(region).reduce, to_photo - [[0, 0, left], [0, 0, top]], size_px)


def shrinkage(to_photo: Matrix) -> int:
    """By how much a photo may be reduced before `to_photo`, so that no pixel of the crop is made of less than one."""
    return max(1, int(np.hypot(to_photo[0, 0], to_photo[1, 0])))


def warped(reduce: Callable[[int], PillowImage.Image], to_photo: Matrix, size_px: int) -> Image:
    """The square crop, `size_px` a side, whose pixels `to_photo` takes into the photo; black where the photo ends.

    `reduce` gives the photo box-averaged by a factor: of what is much larger than the crop, bilinear sampling alone
    would alias.
    """
    shrink = shrinkage(to_photo)
    coefficients = tuple((to_photo / shrink).ravel().tolist())
    crop = reduce(shrink).transform(
        (size_px, size_px), PillowImage.Transform.AFFINE, coefficients, PillowImage.Resampling.BILINEAR
    )
    return np.asarray(crop)


def _region(image: Image, to_photo: Matrix, size_px: int, margin_px: int) -> tuple[int, int, Image]:
    """Left, top and pixels of the part of the photo the crop needs: a whole photo is slow to copy."""
    corners = np.array([[0, size_px, 0, size_px], [0, 0, size_px, size_px], [1, 1, 1, 1]])
    needed = to_photo @ corners
    height, width = image.shape[:2]
    margin_px += 2
    left, top = (
        int(np.clip(np.floor(v) - margin_px, 0, most - 1))
        for v, most in zip(needed.min(1), (width, height), strict=True)
    )
    right, bottom = (
        int(np.clip(np.ceil(v) + margin_px, 1, most)) for v, most in zip(needed.max(1), (width, height), strict=True)
    )
    return left, top, np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])
