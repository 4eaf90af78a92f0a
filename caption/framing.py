"""Shot size and head pose from five landmarks: pure geometry.

Left and right are the viewer's: a head turned left looks towards the photo's left edge. Landmarks, not the
face box, give the face's size, because detectors disagree on where a face ends. Knows no pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from filter.faces import Point

_FACE_HEIGHTS_PER_SPAN = 2.8
"""Hairline to chin, in distances from eyes to mouth: what RetinaFace boxes of real photos measure on average."""
_SHOTS = (
    (0.80, "extreme close-up"),
    (0.50, "close-up"),
    (0.28, "medium close-up"),
    (0.165, "medium shot"),
    (0.11, "medium long shot"),
    (0.0, "long shot"),
)
"""Least face height / frame height of each shot size, widest framing last."""
_FACING_DEG, _SLIGHTLY_DEG, _PROFILE_DEG = 15.0, 35.0, 60.0
_TILT_DEG, _TILT_FAR_DEG = 10.0, 25.0


@dataclass(frozen=True, slots=True)
class FaceFrame:
    """A face's place in its crop. Lengths are shares of the crop's side; x to the right, y down."""

    centre_x: float
    eyes_y: float
    chin_y: float
    height: float
    """Hairline to chin."""
    yaw_deg: float
    """Above 0: turned towards the viewer's right."""
    tilt_deg: float
    """Above 0: the top of the head leans towards the viewer's right."""


def face_frame(landmarks_px: tuple[Point, ...], size_px: int) -> FaceFrame:
    """Measure a face. Raises ValueError when its landmarks are not finite or lie on one point.

    The nose tip stands about half an eye distance before the eyes, so that a head turned by θ shows
    tan θ = 2 · (nose beside the eyes' middle) / (eye distance seen).
    """
    points = [(x / size_px, y / size_px) for x, y in landmarks_px]
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y), mouth_left, mouth_right = points
    eyes_x, eyes_y = (left_x + right_x) / 2, (left_y + right_y) / 2
    mouth_x, mouth_y = (mouth_left[0] + mouth_right[0]) / 2, (mouth_left[1] + mouth_right[1]) / 2
    eyes_apart = math.hypot(right_x - left_x, right_y - left_y)
    span = max(math.hypot(mouth_x - eyes_x, mouth_y - eyes_y), eyes_apart)
    if not (span > 0 and all(math.isfinite(c) for point in points for c in point)):
        raise ValueError("the five landmarks are not finite, or lie on one point")
    tilt = math.atan2(right_y - left_y, right_x - left_x)
    beside = (nose_x - eyes_x) * math.cos(tilt) + (nose_y - eyes_y) * math.sin(tilt)
    return FaceFrame(
        centre_x=(eyes_x + mouth_x) / 2,
        eyes_y=eyes_y,
        chin_y=mouth_y + 0.6 * span,
        height=_FACE_HEIGHTS_PER_SPAN * span,
        yaw_deg=math.degrees(math.atan2(2 * beside, eyes_apart)),
        tilt_deg=math.degrees(tilt),
    )


def shot(frame: FaceFrame) -> str:
    """The film-maker's name of the framing."""
    return next(words for least, words in _SHOTS if frame.height >= least)


def pose(frame: FaceFrame) -> list[str]:
    """Words for where the head turns and, unless it is in profile, how it is tilted."""
    if abs(frame.yaw_deg) >= _PROFILE_DEG:
        return [f"in profile facing {_side(frame.yaw_deg)}"]
    return [_turn(frame.yaw_deg), *_tilt(frame.tilt_deg)]


def _turn(yaw_deg: float) -> str:
    if abs(yaw_deg) < _FACING_DEG:
        return "facing the camera"
    slightly = "slightly " if abs(yaw_deg) < _SLIGHTLY_DEG else ""
    return f"head turned {slightly}to the {_side(yaw_deg)}"


def _tilt(tilt_deg: float) -> list[str]:
    if abs(tilt_deg) < _TILT_DEG:
        return []
    slightly = "slightly " if abs(tilt_deg) < _TILT_FAR_DEG else ""
    return [f"head tilted {slightly}to the {_side(tilt_deg)}"]


def _side(degrees: float) -> str:
    return "right" if degrees > 0 else "left"
