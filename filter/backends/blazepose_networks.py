"""BlazePose's two networks: which bodies lie in a square of the photo, and the landmarks of the body in one.

Inputs, anchors and outputs are MediaPipe's (Bazarevsky et al., arXiv 2006.10204; its graphs pose_detection and
pose_landmark). Does not know whose body is wanted or where to look for it: see `blazepose`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from scipy.special import expit

from filter.align import Matrix, warped
from filter.backends.litert import Floats, Network

Points = npt.NDArray[np.float64]
"""n × 2: x, y."""

DETECTOR_PX, LANDMARKS_PX = 224, 256
STRIDES_AND_ANCHORS = ((8, 2), (16, 2), (32, 6))
"""Of the detector's grid: 28² · 2 + 14² · 2 + 7² · 6 = 2254 anchors, each a cell's centre; sizes play no part."""
LEAST_SCORE = 0.5
LANDMARKS, HEATMAP_PX, HEATMAP_REACH = 39, 64, 3
LEAST_HEAT = 0.5
_WINDOW, _TINY = np.arange(-HEATMAP_REACH, HEATMAP_REACH + 1), np.float32(1e-9)
REGION_SCALE = 1.25
"""A body's circle, grown: what the landmark network was trained on."""


class Photo:
    """An upright photo (mode RGB) and what it looks like reduced, which the next look wants again."""

    def __init__(self, picture: PILImage.Image) -> None:
        self.size_px = picture.size
        """Width, height."""
        self._reduced = {1: picture}

    def reduced(self, factor: int) -> PILImage.Image:
        if factor not in self._reduced:
            self._reduced[factor] = self._reduced[1].reduce(factor)
        return self._reduced[factor]


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the photo, turned so that a body stands upright in it."""

    centre_px: tuple[float, float]
    side_px: float
    angle: float
    """Clockwise, in radians: 0 for a body that stands upright in the photo."""

    def to_photo(self, size_px: int) -> Matrix:
        """From pixels of the region resized to `size_px` to pixels of the photo."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cosine, -sine], [sine, cosine]]) * (self.side_px / size_px)
        return np.column_stack([turn, np.asarray(self.centre_px) - turn @ [size_px / 2, size_px / 2]])


@dataclass(frozen=True, slots=True)
class Bodies:
    """What the detector sees, unsuppressed: rows of one body are many."""

    scores: Floats
    faces: Points
    """Centre of the face, in pixels of the photo, and"""
    face_sides: npt.NDArray[np.float64]
    """the side of its box, about twice what a face detector's is."""
    hips: Points
    """Between the hips, and"""
    tops: Points
    """the point that the circle round the whole body passes through, straight up from there."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """A body's 33 landmarks in MediaPipe's order, then six that help: of these, 33 and 34 give the region."""

    points_px: Points
    """39 × 2, pixels of the photo."""
    visibility: Floats
    """39: 0–1."""
    presence: float
    """That there is a body in the region, 0–1."""

    @property
    def region(self) -> Region:
        """Where to look for the same body again, better centred."""
        return region(self.points_px[33], self.points_px[34])


class BodyDetector:
    """Finds bodies by their faces and tells how each stands and how large it is."""

    def __init__(self, weights: Path) -> None:
        self._network = Network(weights, (0, 1))
        self._anchors = anchors()

    def detect(self, photo: Photo, where: Region) -> Bodies:
        """Rows that score at least `LEAST_SCORE`, best first."""
        to_photo = where.to_photo(DETECTOR_PX)
        crop = warped(photo.reduced, to_photo, DETECTOR_PX)
        places, scores = self._network.run(crop, -1, 1)
        assert np.isfinite(scores).all(), "blazepose-detector: an output is not finite"
        return decoded(places, scores[:, 0], self._anchors, to_photo)


class BodyLandmarker:
    """Finds the landmarks of the one body in a region."""

    def __init__(self, weights: Path) -> None:
        self._network = Network(weights, (0, 1, 3))

    def look(self, photo: Photo, where: Region) -> Landmarks:
        """Landmarks, refined by their heatmaps. Some are guesses: `visibility` and `presence` tell."""
        to_photo = where.to_photo(LANDMARKS_PX)
        crop = warped(photo.reduced, to_photo, LANDMARKS_PX)
        rows, presence, heat = self._network.run(crop, 0, 1)
        rows = rows.reshape(LANDMARKS, 5)
        points = refined(rows[:, :2] * (HEATMAP_PX / LANDMARKS_PX), heat) * (LANDMARKS_PX / HEATMAP_PX)
        assert np.isfinite(points).all(), "blazepose-landmarks: an output is not finite"
        return Landmarks(_moved(points, to_photo), expit(rows[:, 3]), float(presence[0]))


def region(hips: npt.ArrayLike, top: npt.ArrayLike) -> Region:
    """The square round the circle about the hips that passes through `top`, grown by a quarter."""
    (x, y), (right, down) = np.asarray(hips, np.float64), np.asarray(top, np.float64) - np.asarray(hips, np.float64)
    radius = float(np.hypot(right, down))
    return Region((float(x), float(y)), max(2 * radius * REGION_SCALE, 1.0), float(np.arctan2(right, -down)))


def anchors() -> Floats:
    """2254 × 2: centres in pixels of the detector's input."""
    rows = []
    for stride, count in STRIDES_AND_ANCHORS:
        centres = (np.arange(DETECTOR_PX // stride) + 0.5) * stride
        rows += [(x, y) for y in centres for x in centres for _ in range(count)]
    return np.array(rows, np.float32)


def decoded(places: Floats, logits: Floats, anchors: Floats, to_photo: Matrix) -> Bodies:
    """Offsets from the anchors to pixels of the photo, for what scores enough.

    A row is a box (centre, size) and four points of which the first two are used: hips, and the body's circle.
    """
    scores = expit(logits)
    chosen = np.flatnonzero(scores >= LEAST_SCORE)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    face, size, hips, top = (places[chosen, at : at + 2].astype(np.float64) for at in (0, 2, 4, 6))
    scale = np.hypot(to_photo[0, 0], to_photo[1, 0])
    face, hips, top = (_moved(points + anchors[chosen], to_photo) for points in (face, hips, top))
    return Bodies(scores[chosen], face, np.sqrt(np.abs(size.prod(1))) * scale, hips, top)


def refined(points: Floats, heat: Floats) -> Points:
    """Points (n × 2, in cells of the heatmaps) at the centre of the heat round them.

    7 × 7 cells, weighted by their confidence; a point whose surroundings stay cold (< 0.5) keeps its place.
    """
    cells = np.floor(points).astype(int)
    columns, rows = (cells[:, axis, None] + _WINDOW for axis in (0, 1))
    inside = ((rows >= 0) & (rows < HEATMAP_PX))[:, :, None] & ((columns >= 0) & (columns < HEATMAP_PX))[:, None, :]
    at = np.clip(rows, 0, HEATMAP_PX - 1)[:, :, None], np.clip(columns, 0, HEATMAP_PX - 1)[:, None, :]
    weights = expit(heat[*at, np.arange(len(points))[:, None, None]]) * inside
    total = np.maximum(weights.sum((1, 2)), _TINY)
    shift = np.stack([weights.sum(1) @ _WINDOW, weights.sum(2) @ _WINDOW], axis=1) / total[:, None]
    hot = (weights.max((1, 2)) >= LEAST_HEAT) & inside[:, HEATMAP_REACH, HEATMAP_REACH]
    return np.where(hot[:, None], cells + shift, points)


def _moved(points: npt.NDArray[np.floating], matrix: Matrix) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])
