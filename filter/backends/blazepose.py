"""BlazePose for the person whose face was verified, alone or in a crowd.

The search starts at the face: the landmark network looks at the square where this face's body should be, and again
where the landmarks say it is, until that stands still. The body detector is asked only when too little of a body
is seen: it finds bodies that do not hang straight below their face. Knows no identities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from crawl.photo import Rejection
from filter.align import ARCFACE_TEMPLATE
from filter.backends.blazepose_networks import BodyDetector, BodyLandmarker, Landmarks, Photo, Points, Region, region
from filter.faces import Face
from filter.keypoints import STAGE, VISIBLE, Pose

KEYPOINTS = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
"""Our 12 among MediaPipe's 33."""
FACE = [5, 2, 0, 10, 9]
"""Right eye, left eye, nose, right and left corner of the mouth: a face's five landmarks, as the photo shows them."""

HIPS_BELOW, BODY_SIDE = 10.5, 27.5
"""In spans (eyes to mouth): from a face to its hips, and the side of the body's region. Measured on photos."""
SEARCH_BELOW, SEARCH_SIDE = 7.5, 22.5
"""In spans: the square in which the detector looks."""
MOST_LOOKS = 5
"""At one body; two at least."""
STANDS_STILL = 0.08
"""Of its side: a region that moves, grows or turns by less is there."""
WHOLE = 9.0
"""Sum of the visibility of 12 points from which a body counts as seen whole."""
TURNED = np.pi / 4
"""Between two ways a body may lie: from here on they contradict each other."""

LEAST_PRESENCE = 0.5
LEAST_POINTS = 2
"""Visible points that make a body: two shoulders."""
AT_THE_FACE, ELSEWHERE = 0.6, 1.25
"""In spans, mean over five landmarks: nearer is surely this face's body, farther is another's."""


class BlazePose:
    """Body detector and landmarker. The scores are the landmarks' visibility, 0–1."""

    def __init__(self, detector: BodyDetector, landmarker: BodyLandmarker) -> None:
        self._detector, self._landmarker = detector, landmarker

    def estimate(self, photos: Sequence[PILImage.Image], faces: Sequence[Face]) -> list[Pose | Rejection]:
        """One answer a photo."""
        found = (self.body(photo, face) for photo, face in zip(photos, faces, strict=True))
        return [body if isinstance(body, Rejection) else pose(body) for body in found]

    def body(self, picture: PILImage.Image, face: Face) -> Landmarks | Rejection:
        """The body of this face in an upright photo, or why there is none: `no_body`, `other_body`."""
        photo = Photo(picture)
        body = self._follow(photo, face, below_face(face))
        if seen(body, photo) < WHOLE or doubtful(body, face):
            body = self._other(photo, face, body) or body
        return refused(body, photo, face) or body

    def _follow(self, photo: Photo, face: Face, where: Region) -> Landmarks:
        """Look until the region stands still, or has moved on to another body: then what was seen before counts."""
        body = self._landmarker.look(photo, where)
        for _ in range(MOST_LOOKS - 1):
            where, before = body.region, body
            body = self._landmarker.look(photo, where)
            if distance(body, face) > ELSEWHERE:
                return before
            if change(where, body.region) < STANDS_STILL:
                break
        return body

    def _other(self, photo: Photo, face: Face, body: Landmarks) -> Landmarks | None:
        """A body that lies another way and of which more is seen, from what the detector says of this face."""
        angle = self._angle(photo, face)
        if angle is None or not (doubtful(body, face) or abs(between(angle, body.region.angle)) > TURNED):
            return None
        other = self._follow(photo, face, below_face(face, angle))
        sight = seen(other, photo)
        better = sight > seen(body, photo) + 1 and (sight >= WHOLE or distance(other, face) < AT_THE_FACE)
        return other if better else None

    def _angle(self, photo: Photo, face: Face) -> float | None:
        """Which way the body of this face lies: the best row of the detector whose face is this one."""
        (x, y), unit = centre(face), span_px(face)
        found = self._detector.detect(photo, Region((x, y + SEARCH_BELOW * unit), SEARCH_SIDE * unit, 0.0))
        near = np.hypot(*(found.faces - (x, y)).T) < np.minimum(found.face_sides / 2, 3 * unit)
        if not near.any():
            return None
        first = int(np.argmax(near))
        return region(found.hips[first], found.tops[first]).angle


def pose(body: Landmarks) -> Pose:
    """The 12 of 33 landmarks."""
    points = body.points_px[KEYPOINTS]
    return Pose(tuple((float(x), float(y)) for x, y in points), tuple(float(v) for v in body.visibility[KEYPOINTS]))


def doubtful(body: Landmarks, face: Face) -> bool:
    """Perhaps no body, or not this face's."""
    return body.presence < LEAST_PRESENCE or distance(body, face) > AT_THE_FACE


def refused(body: Landmarks, photo: Photo, face: Face) -> Rejection | None:
    """Why these landmarks are not this face's body; None when they are."""
    visible = int(((body.visibility[KEYPOINTS] >= VISIBLE) & inside(body.points_px[KEYPOINTS], photo.size_px)).sum())
    if body.presence < LEAST_PRESENCE:
        return Rejection(STAGE, "no_body", body.presence, LEAST_PRESENCE)
    if visible < LEAST_POINTS:
        return Rejection(STAGE, "no_body", float(visible), float(LEAST_POINTS))
    if distance(body, face) > ELSEWHERE:
        return Rejection(STAGE, "other_body", distance(body, face), ELSEWHERE)
    return None


def below_face(face: Face, angle: float | None = None) -> Region:
    """Where the body of this face should be: straight below it, as the face is held or, given, at another angle."""
    if angle is None:
        left, right, _, mouth_left, mouth_right = np.asarray(face.landmarks_px)
        down = (mouth_left + mouth_right) / 2 - (left + right) / 2
        angle = float(np.arctan2(-down[0], down[1]))
    (x, y), unit = centre(face), span_px(face)
    hips = (x - HIPS_BELOW * unit * np.sin(angle), y + HIPS_BELOW * unit * np.cos(angle))
    return Region((float(hips[0]), float(hips[1])), BODY_SIDE * unit, angle)


def span_px(face: Face) -> float:
    """From eyes to mouth, in a face seen from the front; of a turned or nodding one, the longer of what is left.

    Of landmarks, not of the box: detectors disagree on where a face ends.
    """
    left, right, _, mouth_left, mouth_right = np.asarray(face.landmarks_px)
    down = np.hypot(*((mouth_left + mouth_right) / 2 - (left + right) / 2))
    return max(float(down), float(np.hypot(*(right - left))) * _SPAN_PER_EYES, 1.0)


def centre(face: Face) -> tuple[float, float]:
    """The middle of the five landmarks."""
    x, y = np.asarray(face.landmarks_px).mean(0)
    return float(x), float(y)


def distance(body: Landmarks, face: Face) -> float:
    """Of the body's face from this one: the mean over five landmarks, in spans."""
    apart = body.points_px[FACE] - np.asarray(face.landmarks_px)
    return float(np.hypot(*apart.T).mean()) / span_px(face)


def seen(body: Landmarks, photo: Photo) -> float:
    """How many of the 12 points are seen in the photo: the sum of their visibility."""
    return float((body.visibility[KEYPOINTS] * inside(body.points_px[KEYPOINTS], photo.size_px)).sum())


def inside(points: Points, size_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points <= size_px)).all(1))


def change(one: Region, other: Region) -> float:
    """How far two regions differ, in sides: the greatest of shift, growth and turn."""
    shift = np.hypot(*np.subtract(other.centre_px, one.centre_px)) / one.side_px
    return float(max(shift, abs(other.side_px / one.side_px - 1), abs(between(one.angle, other.angle)) / 2))


def between(one: float, other: float) -> float:
    """The angle from one to the other, −π … π."""
    return float((other - one + np.pi) % (2 * np.pi) - np.pi)


def _template_span() -> float:
    left, right, _, mouth_left, mouth_right = np.asarray(ARCFACE_TEMPLATE)
    return float(np.hypot(*((mouth_left + mouth_right - left - right) / 2)) / np.hypot(*(right - left)))


_SPAN_PER_EYES = _template_span()
"""In a face seen from the front."""
