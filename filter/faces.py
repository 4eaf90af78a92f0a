"""What a face is, what detectors and embedders promise, and which faces count.

Frame of every coordinate here: pixels of the upright photo, x to the right, y down, (0, 0) the
top-left corner. Knows no model and no identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from crawl.decode import Image as Image

Embeddings = npt.NDArray[np.float32]
"""rows × dimensions, each row of unit length."""
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face."""

    box_xyxy_px: Box
    """left, top, right, bottom; may reach over the photo's edge."""
    landmarks_px: tuple[Point, ...]
    """Five points in ArcFace's order: the eye on the photo's left, the eye on its right, nose tip,
    mouth corner on the left, mouth corner on the right."""
    score: float
    """The detector's own score; its scale differs per detector (see `models.DETECTORS`)."""
    embedding: npt.NDArray[np.float32] | None = None
    """Unit length; None until embedded."""

    @property
    def side_px(self) -> float:
        """The box's shorter side: what `min_face_px` is compared with."""
        left, top, right, bottom = self.box_xyxy_px
        return min(right - left, bottom - top)


class FaceDetector(Protocol):
    """Finds every face of a photo. Loaded once per worker, used from one thread."""

    def detect(self, image: Image, min_face_px: int) -> list[Face]:
        """Faces, best score first. Faces much smaller than `min_face_px` need not be found."""
        ...


class FaceEmbedder(Protocol):
    """Turns faces into vectors whose cosine tells whether two show one person."""

    dimensions: int

    def embed(self, image: Image, faces: list[Face]) -> Embeddings:
        """One unit row a face, in order. A photo's faces only: results never depend on batching."""
        ...
