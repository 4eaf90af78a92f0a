"""dlib's HOG face detector, shape predictors and 128-d ResNet: the default that comes with the install.

Knows how dlib wants its pictures; does not know where the weight files lie.
"""

from __future__ import annotations

from pathlib import Path

import dlib
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from filter.backends import unit_rows
from filter.faces import Box, Embeddings, Face, Image, Point

Vector = npt.NDArray[np.float64]

SMALLEST_FACE_PX = 80
"""Side of the detector's window: smaller faces are not found."""
MAX_ENLARGEMENT = 2.0
MOST_PIXELS = 40_000_000
"""Of the enlarged photo: about 4 s. Only a `min_face_px` far below 80 in a huge photo meets this bound."""
DESCRIPTOR_RADIUS = 2.0
"""Greater than the length of any descriptor (1.29–1.57 on real photos), see `lifted`."""


class HogDetector:
    """Frontal faces by HOG + linear SVM; landmarks by a regression-tree ensemble of 68 points.

    The score is the SVM's margin: 0 is the detector's own threshold, clear faces have 0.4–3.
    """

    def __init__(self, predictor_68: Path) -> None:
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(predictor_68))

    def detect(self, image: Image, min_face_px: int) -> list[Face]:
        """Faces of half `min_face_px` and more, best score first; landmarks from the photo as it is."""
        scaled = _scaled(image, 2 * SMALLEST_FACE_PX / min_face_px)
        rectangles, scores, _ = self._detector.run(scaled, 0, 0.0)
        x_scale, y_scale = image.shape[1] / scaled.shape[1], image.shape[0] / scaled.shape[0]
        boxes = [_box(rectangle, x_scale, y_scale) for rectangle in rectangles]
        image = np.ascontiguousarray(image)
        faces = [
            Face(box, self._five_landmarks(image, box), float(score)) for box, score in zip(boxes, scores, strict=True)
        ]
        return sorted(faces, key=lambda face: (-face.score, face.box_xyxy_px))

    def _five_landmarks(self, image: Image, box: Box) -> tuple[Point, ...]:
        shape = self._predictor(image, _rectangle(box))
        points = np.array([(part.x, part.y) for part in shape.parts()], np.float64) + 0.5
        left_eye, right_eye = points[36:42].mean(0), points[42:48].mean(0)
        return tuple((float(x), float(y)) for x, y in (left_eye, right_eye, points[30], points[48], points[54]))


class ResNetEmbedder:
    """dlib's face descriptor, lifted to unit length; works from the landmarks of any detector."""

    dimensions = 129

    def __init__(self, predictor_5: Path, network: Path) -> None:
        self._predictor = dlib.shape_predictor(str(predictor_5))
        self._network = dlib.face_recognition_model_v1(str(network))

    def embed(self, image: Image, faces: list[Face]) -> Embeddings:
        """One unit row a face."""
        image = np.ascontiguousarray(image)
        return unit_rows([lifted(self._descriptor(image, face)) for face in faces], self.dimensions, "dlib-resnet-v1")

    def _descriptor(self, image: Image, face: Face) -> Vector:
        shape = self._predictor(image, _rectangle(predictor_box(face.landmarks_px)))
        return np.array(self._network.compute_face_descriptor(image, shape))


def lifted(descriptor: Vector) -> Vector:
    """x of any length below R → (x, √(R² − |x|²)), of length R.

    dlib's network was trained on Euclidean distance d. Cosine of lifted vectors is 1 − d²/2R² but for a small term of
    their lengths, so it ranks pairs as d does and dlib's own threshold 0.6 is 0.955 (benchmarks/faces.py).
    """
    return np.append(descriptor, np.sqrt(np.maximum(DESCRIPTOR_RADIUS**2 - descriptor @ descriptor, 0)))


def predictor_box(landmarks_px: tuple[Point, ...]) -> Box:
    """The box dlib's detector would draw round these five landmarks: its predictors were trained on such boxes.

    Both numbers are least-squares fits over real photos; they match two detectors within 1 %.
    """
    points = np.asarray(landmarks_px, np.float64)
    eyes_apart, eyes_to_mouth = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    side = 1.71 * float(np.hypot(np.linalg.norm(eyes_apart), np.linalg.norm(eyes_to_mouth)))
    x, y = (float(v) for v in points.mean(0))
    y -= 0.02 * side
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def _scaled(image: Image, wanted_scale: float) -> Image:
    height, width = image.shape[:2]
    scale = min(MAX_ENLARGEMENT, wanted_scale, float(np.sqrt(MOST_PIXELS / (height * width))))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return np.ascontiguousarray(image)
    # reducing_gap: box-average down to 3 times the size first; as good here and several times as fast
    return np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR, reducing_gap=3.0))


def _box(rectangle: dlib.rectangle, x_scale: float, y_scale: float) -> Box:
    left, top, right, bottom = rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1
    return left * x_scale, top * y_scale, right * x_scale, bottom * y_scale


def _rectangle(box: Box) -> dlib.rectangle:
    """dlib's rectangles hold pixel indices, right and bottom included."""
    left, top, right, bottom = box
    return dlib.rectangle(round(left), round(top), round(right) - 1, round(bottom) - 1)
