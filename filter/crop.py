"""Where to cut: the square training crop and the reference face crop.

Pure geometry in pixels of the upright photo; knows nothing of pixels' values or of files.
"""

from __future__ import annotations

import math
from typing import Literal

from filter.faces import Box, Point

Square = tuple[int, int, int, int]
"""left, top, right, bottom, with right − left = bottom − top, inside the photo."""

_FACE_MARGIN = 0.2
"""On each side of the squared face box: the thesis' reference crop."""
_FACE_HEIGHT = {"portrait": 0.42, "body": 0.16}
"""Where the face's centre goes, as a share of the square's height: room for shoulders, or for the body."""


def training_square(
    height_px: int, width_px: int, face: Box, framing: Literal["portrait", "body"], min_face_share: float
) -> Square:
    """The largest square that frames the person and holds the whole face box.

    `portrait`: at most so large that the face's area is ≥ `min_face_share` of it (PhotoMaker: 10 %).
    """
    left, top, right, bottom = _inside(face, height_px, width_px)
    longest = max(right - left, bottom - top)
    side = float(min(height_px, width_px))
    if framing == "portrait":
        side = min(side, math.sqrt((right - left) * (bottom - top) / min_face_share))
    whole = math.floor(min(max(side, math.ceil(longest) + 2), height_px, width_px))
    centre_x = (left + right) / 2
    centre_y = (top + bottom) / 2 + (0.5 - _FACE_HEIGHT[framing]) * whole
    centre_y = min(max(centre_y, bottom - whole / 2), top + whole / 2)
    return _square_at(centre_x, centre_y, whole, height_px, width_px)


def face_square(height_px: int, width_px: int, face: Box) -> Square:
    """The face box made square by its longer side, plus 20 % on each side, moved into the photo."""
    left, top, right, bottom = _inside(face, height_px, width_px)
    side = max(right - left, bottom - top) * (1 + 2 * _FACE_MARGIN)
    whole = min(round(side), height_px, width_px)
    return _square_at((left + right) / 2, (top + bottom) / 2, whole, height_px, width_px)


def into_crop(points: tuple[Point, ...], square: Square, size_px: int) -> tuple[Point, ...]:
    """Points of the photo in pixels of the crop resized to `size_px`."""
    left, top, right, _ = square
    scale = size_px / (right - left)
    return tuple(((x - left) * scale, (y - top) * scale) for x, y in points)


def box_into_crop(box: Box, square: Square, size_px: int) -> Box:
    (left, top), (right, bottom) = into_crop(((box[0], box[1]), (box[2], box[3])), square, size_px)
    return left, top, right, bottom


def visible(box: Box, size_px: int) -> Box:
    """The part of a box that lies in the crop: detectors' boxes may reach over the photo's edge."""
    left, top, right, bottom = _inside(box, size_px, size_px)
    return min(left, size_px), min(top, size_px), max(right, 0.0), max(bottom, 0.0)


def _inside(box: Box, height_px: int, width_px: int) -> Box:
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, float(width_px)), min(bottom, float(height_px))


def _square_at(centre_x: float, centre_y: float, side: int, height_px: int, width_px: int) -> Square:
    left = min(max(round(centre_x - side / 2), 0), width_px - side)
    top = min(max(round(centre_y - side / 2), 0), height_px - side)
    return left, top, left + side, top + side
