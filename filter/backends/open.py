"""RetinaFace (MobileNet-0.25) and MobileFaceNet-ArcFace as ONNX: small, and free to use.

Knows these two networks' inputs and outputs; does not know where the weight files lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from filter.align import aligned
from filter.backends import unit_rows
from filter.backends.runtime import session
from filter.faces import Embeddings, Face, Image

Floats = npt.NDArray[np.float32]

SIDE_PX = 320
"""The detector's input, fixed in the file."""
SMALLEST_FACE_PX = 32
"""In the 320 px input; below, landmarks get coarse (24 px) and faces are missed (20 px), so the photo is tiled."""
MOST_PIXELS = 16_000_000
"""Of the enlarged photo: about 6 s. Only a `min_face_px` far below a huge photo's side meets this bound."""
LEAST_SCORE = 0.5
NMS_IOU = 0.4
STRIDES_AND_ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
MEAN_BGR = np.array((104, 117, 123), np.float32)

IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), np.float32)


class RetinaFaceMobileNet:
    """RetinaFace with five landmarks. The score is a softmax probability, 0–1."""

    def __init__(self, weights: Path) -> None:
        self._session = session(weights)
        self._anchors = anchors()

    def detect(self, image: Image, min_face_px: int) -> list[Face]:
        """Faces, best score first. Every face is seen once at a scale where it has ≥ 32 of 320 px."""
        found = [np.empty((0, 15), np.float32)]
        height, width = image.shape[:2]
        for scale in scales(height, width, min_face_px):
            found += self._at_scale(image, scale)
        return [_face(row) for row in suppressed(np.concatenate(found))]

    def _at_scale(self, image: Image, scale: float) -> Iterator[Floats]:
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        photo = PillowImage.fromarray(image)
        if size != (width, height):
            photo = photo.resize(size, PillowImage.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.asarray(photo)
        for left, top in tiles(*size):
            rows = self._in_tile(pixels[top : top + SIDE_PX, left : left + SIDE_PX])
            rows = rows[_whole(rows, left, top, *size)]
            rows[:, 1:] += np.tile((left, top), 7)
            rows[:, 1:] *= np.tile((width / size[0], height / size[1]), 7)
            yield rows

    def _in_tile(self, tile: Image) -> Floats:
        """Rows of score, box (4), landmarks (10) in pixels of the tile."""
        padded = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32)
        padded[: tile.shape[0], : tile.shape[1]] = tile[:, :, ::-1] - MEAN_BGR
        outputs = self._session.run(None, {"input0": padded.transpose(2, 0, 1)[None]})
        assert all(np.isfinite(output).all() for output in outputs), "retinaface-mnet025: an output is not finite"
        places, scores, points = (output[0] for output in outputs)
        return decoded(self._anchors, places, scores[:, 1], points)


class MobileFaceNetEmbedder:
    """MobileFaceNet trained with ArcFace's margin, on the 112 × 112 aligned crop."""

    dimensions = 128

    def __init__(self, weights: Path) -> None:
        self._session = session(weights)

    def embed(self, image: Image, faces: list[Face]) -> Embeddings:
        """One unit row a face."""
        rows = [self._row(aligned(image, face.landmarks_px)) for face in faces]
        return unit_rows(rows, self.dimensions, "mobilefacenet-arcface")

    def _row(self, crop: Image) -> Floats:
        pixels = (crop.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        row: Floats = self._session.run(None, {"input0": pixels.transpose(2, 0, 1)[None]})[0][0]
        return row


def anchors() -> Floats:
    """4200 × (centre x, centre y, side), in pixels of the input."""
    rows = []
    for stride, sides in STRIDES_AND_ANCHORS:
        centres = (np.arange(SIDE_PX // stride) + 0.5) * stride
        rows += [(x, y, side) for y in centres for x in centres for side in sides]
    return np.array(rows, np.float32)


def decoded(anchors: Floats, places: Floats, scores: Floats, points: Floats) -> Floats:
    """Offsets to pixels, for what scores enough (SSD's encoding; RetinaFace, arXiv 1905.00641)."""
    chosen = scores > LEAST_SCORE
    centres, sides = anchors[chosen, :2], anchors[chosen, 2:]
    middle = centres + places[chosen, :2] * CENTRE_VARIANCE * sides
    half = sides * np.exp(places[chosen, 2:] * SIZE_VARIANCE) / 2
    landmarks = np.tile(centres, 5) + points[chosen] * CENTRE_VARIANCE * sides
    return np.column_stack([scores[chosen], middle - half, middle + half, landmarks])


def scales(height: int, width: int, min_face_px: int) -> list[float]:
    """The whole photo in one input; when `min_face_px` is too small in that, larger scales up to its own."""
    found = [SIDE_PX / max(height, width)]
    largest = min(SMALLEST_FACE_PX / min_face_px, float(np.sqrt(MOST_PIXELS / (height * width))))
    while found[-1] < largest:
        found.append(min(4 * found[-1], largest))
    return found


def tiles(width: int, height: int) -> list[tuple[int, int]]:
    """Left and top of tiles that overlap by a face of the coarser scale's smallest size, 4 × 32 px, and a margin."""
    step = SIDE_PX - 5 * SMALLEST_FACE_PX
    return [(x, y) for y in _starts(height, step) for x in _starts(width, step)]


def suppressed(rows: Floats) -> Floats:
    """Greedy non-maximum suppression, best score first; equal scores in order of place."""
    rows = rows[np.lexsort((*rows[:, 4:0:-1].T, -rows[:, 0]))]
    kept: list[int] = []
    for index, row in enumerate(rows):
        if not kept or _overlap(row[1:5], rows[kept, 1:5]).max() <= NMS_IOU:
            kept.append(index)
    return rows[kept]


def _starts(length: int, step: int) -> list[int]:
    count = max(0, -(-(length - SIDE_PX) // step)) + 1
    return [min(i * step, max(0, length - SIDE_PX)) for i in range(count)]


def _whole(rows: Floats, left: int, top: int, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Not cut by a tile's inner edge: another tile, or the coarser scale, sees such a face whole."""
    edge = SIDE_PX - 2
    cut = (rows[:, 1] < 2) & (left > 0) | (rows[:, 2] < 2) & (top > 0)
    cut |= (rows[:, 3] > edge) & (left + SIDE_PX < width) | (rows[:, 4] > edge) & (top + SIDE_PX < height)
    return ~cut


def _overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union with each of `boxes`."""
    corner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(corner, 0).prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared
    return np.asarray(shared / union)


def _face(row: Floats) -> Face:
    left, top, right, bottom, *points = (float(v) for v in row[1:])
    return Face((left, top, right, bottom), tuple(zip(points[::2], points[1::2], strict=True)), float(row[0]))
