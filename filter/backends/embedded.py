"""dlib's HOG face detector, 5-point shape predictor and 128-d ResNet: the default that comes with the install.

Knows how dlib wants its pictures and what its five points are; does not know where the weight files lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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


class NoseMap(NamedTuple):
    """Where the nose tip and the mouth corners are, given the eyes and the base of the nose.

    Frame: the origin midway between the eyes; x towards the eye on the photo's right, y a quarter turn on, towards the
    mouth; the unit is the distance between the eyes. With the base of the nose at (u, v), the nose tip is at
    (tip_u·u, tip_y + tip_v·v), the mouth corners at (mouth_u·u ∓ mouth_half, mouth_y + mouth_v·v).
    """

    tip_u: float
    tip_y: float
    tip_v: float
    mouth_u: float
    mouth_y: float
    mouth_v: float
    mouth_half: float


NOSE_MAP = NoseMap(
    tip_u=1.406, tip_y=-0.162, tip_v=0.946, mouth_u=0.219, mouth_y=0.482, mouth_v=0.774, mouth_half=0.446
)
"""Least squares over 129 faces of 18 people against RetinaFace-MobileNet's landmarks (`benchmarks.faces --fit`).

Mean error on people left out of the fit, in distances between the eyes: nose tip 0.08, mouth corners 0.11 (eye
centres, which are not mapped, 0.05); the tip's place beside the eyes' middle, which tells yaw, correlates at 0.93.
Mouth corners are estimates of where a mouth is: dlib's five points do not see it open, smile or turn.
"""


class HogDetector:
    """Frontal faces by HOG + linear SVM; landmarks from a regression-tree ensemble of five points, see `NOSE_MAP`.

    The score is the SVM's margin: 0 is the detector's own threshold, clear faces have 0.4–3.
    """

    def __init__(self, predictor_5: Path) -> None:
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(predictor_5))

    def detect(self, image: Image, min_face_px: int) -> list[Face]:
        """Faces of half `min_face_px` and more, best score first; landmarks from the photo as it is."""
        image = np.ascontiguousarray(image)
        scaled = _scaled(image, 2 * SMALLEST_FACE_PX / min_face_px)
        rectangles, scores, _ = self._detector.run(scaled, 0, 0.0)
        x_scale, y_scale = image.shape[1] / scaled.shape[1], image.shape[0] / scaled.shape[0]
        boxes = [_box(rectangle, x_scale, y_scale) for rectangle in rectangles]
        faces = [
            Face(box, five_landmarks(self.shape_px(image, box)), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
        return sorted(faces, key=lambda face: (-face.score, face.box_xyxy_px))

    def shape_px(self, image: Image, box: Box) -> Vector:
        """dlib's own five points, 5 × 2: for the eye on the photo's right its outer and inner corner, for the eye on
        the left its outer and inner corner, the base of the nose."""
        shape = self._predictor(np.ascontiguousarray(image), _rectangle(box))
        return np.array([(part.x, part.y) for part in shape.parts()], np.float64) + 0.5


class ResNetEmbedder:
    """dlib's face descriptor, lifted to unit length.

    The network wants dlib's five points, found anew in each face: in the box itself when it is `HogDetector`'s
    (`dlib_boxes`), else in the box that dlib would draw round the landmarks.
    """

    dimensions = 129

    def __init__(self, predictor_5: Path, network: Path, dlib_boxes: bool = False) -> None:
        self._predictor = dlib.shape_predictor(str(predictor_5))
        self._network = dlib.face_recognition_model_v1(str(network))
        self._dlib_boxes = dlib_boxes

    def embed(self, image: Image, faces: list[Face]) -> Embeddings:
        """One unit row a face."""
        image = np.ascontiguousarray(image)
        return unit_rows([lifted(self._descriptor(image, face)) for face in faces], self.dimensions, "dlib-resnet-v1")

    def _descriptor(self, image: Image, face: Face) -> Vector:
        box = face.box_xyxy_px if self._dlib_boxes else predictor_box(face.landmarks_px)
        return np.array(self._network.compute_face_descriptor(image, self._predictor(image, _rectangle(box))))


def five_landmarks(shape_px: Vector, nose_map: NoseMap = NOSE_MAP) -> tuple[Point, ...]:
    """ArcFace's five from dlib's five (5 × 2): the eyes' centres between their corners, the rest by `nose_map`."""
    left, right = eyes(shape_px)
    base = (complex(*shape_px[4]) - (left + right) / 2) / (right - left)
    tip = complex(nose_map.tip_u * base.real, nose_map.tip_y + nose_map.tip_v * base.imag)
    mouth = complex(nose_map.mouth_u * base.real, nose_map.mouth_y + nose_map.mouth_v * base.imag)
    mapped = (tip, mouth - nose_map.mouth_half, mouth + nose_map.mouth_half)
    points = (left, right, *((left + right) / 2 + (right - left) * point for point in mapped))
    return tuple((point.real, point.imag) for point in points)


def eyes(shape_px: Vector) -> tuple[complex, complex]:
    """Centres of the eye on the photo's left and of the one on its right, x + iy, from dlib's five points (5 × 2)."""
    return complex(*shape_px[2:4].mean(0)), complex(*shape_px[:2].mean(0))


def lifted(descriptor: Vector) -> Vector:
    """x of any length below R → (x, √(R² − |x|²)), of length R.

    dlib's network was trained on Euclidean distance d. Cosine of lifted vectors is 1 − d²/2R² but for a small term of
    their lengths, so it ranks pairs as d does and dlib's own threshold 0.6 is 0.955 (benchmarks/faces.py).
    """
    return np.append(descriptor, np.sqrt(np.maximum(DESCRIPTOR_RADIUS**2 - descriptor @ descriptor, 0)))


def predictor_box(landmarks_px: tuple[Point, ...]) -> Box:
    """The box dlib's detector would draw round these five landmarks: its predictors were trained on such boxes.

    Both numbers are least-squares fits over real photos; from RetinaFace-MobileNet's landmarks, boxes are 1 % larger
    than dlib's on average and 8 % off (standard deviation).
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
