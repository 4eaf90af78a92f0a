"""A photo with what was found in it drawn on it: faces, landmarks, the two crops, the body.

Knows nothing of how it was found. For a person to look at: colours and sizes are no contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from filter.crop import Square
from filter.faces import Box, Face, Point
from filter.keypoints import BONES, NAMES, VISIBLE, Pose

LONGEST_PX = 1280
"""Of the picture; a larger photo is shrunk."""
Colour = tuple[int, int, int]
_FOUND, _COUNTS, _CHOSEN, _CROP = (150, 150, 150), (255, 220, 0), (0, 230, 90), (255, 255, 255)
_LEFT, _RIGHT, _MIDDLE = (255, 140, 0), (0, 160, 255), (255, 60, 200)


@dataclass(frozen=True, slots=True)
class Findings:
    """What to draw, in pixels of the photo."""

    found: Sequence[Face] = ()
    """Every face."""
    counting: Sequence[Face] = ()
    """Those that count."""
    chosen: Face | None = None
    """The named person's."""
    label: str = ""
    """Written at the chosen face."""
    crops: Sequence[Square] = ()
    pose: Pose | None = None


def drawn(photo: PILImage.Image, findings: Findings) -> PILImage.Image:
    """The photo, at most `LONGEST_PX` on its longer side, with everything on it."""
    scale = min(1.0, LONGEST_PX / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    picture = photo.resize(size, PILImage.Resampling.BICUBIC, reducing_gap=2.0) if scale < 1 else photo.copy()
    pen = _Pen(picture, scale)
    for square in findings.crops:
        pen.box(square, _CROP, 1)
    for face in findings.found:
        pen.box(face.box_xyxy_px, _COUNTS if face in findings.counting else _FOUND, 1)
    if findings.pose is not None:
        pen.pose(findings.pose)
    if findings.chosen is not None:
        pen.box(findings.chosen.box_xyxy_px, _CHOSEN, 2, findings.label)
        pen.points(findings.chosen.landmarks_px, _CHOSEN)
    return picture


class _Pen:
    """Draws in pixels of the photo, as wide as the picture's size asks for."""

    def __init__(self, picture: PILImage.Image, scale: float) -> None:
        self._draw, self._scale = ImageDraw.Draw(picture), scale
        self._width = max(1, round(max(picture.size) / 400))
        self._font = ImageFont.load_default(max(10, 7 * self._width))

    def box(self, box: Box | Square, colour: Colour, weight: int, label: str = "") -> None:
        left, top, right, bottom = (value * self._scale for value in box)
        self._draw.rectangle((left, top, right, bottom), outline=colour, width=weight * self._width)
        if label:
            at = (left, bottom + self._width)
            self._draw.rectangle(self._draw.textbbox(at, label, self._font), fill=(0, 0, 0))
            self._draw.text(at, label, colour, self._font)

    def points(self, points: Iterable[Point], colour: Colour) -> None:
        for point in points:
            self._dot(point, colour, True)

    def pose(self, pose: Pose) -> None:
        """Bones between points that can be seen are thick; other points are rings."""
        seen = [score >= VISIBLE for score in pose.scores]
        for one, other in BONES:
            ends = [value * self._scale for at in (one, other) for value in pose.keypoints_px[at]]
            weight = 2 * self._width if seen[one] and seen[other] else max(1, self._width // 2)
            self._draw.line(ends, _colour(one, other), weight)
        for number, point in enumerate(pose.keypoints_px):
            self._dot(point, _colour(number, number), seen[number])

    def _dot(self, point: Point, colour: Colour, filled: bool) -> None:
        x, y, radius = point[0] * self._scale, point[1] * self._scale, 2 * self._width
        where = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse(where, fill=colour if filled else None, outline=colour)


def _colour(one: int, other: int) -> Colour:
    """The person's left and right are told apart; between them is a third colour."""
    sides = {NAMES[one].split()[0], NAMES[other].split()[0]}
    return _MIDDLE if len(sides) == 2 else _LEFT if sides == {"left"} else _RIGHT
