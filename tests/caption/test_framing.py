"""Shot sizes and head poses from landmarks, checked against a head turned in space."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caption.framing import face_frame, pose, shot

# Five points of a head in eye distances: x to the viewer's right, y down, z towards the viewer.
HEAD = np.array([(-0.5, -0.5, 0), (0.5, -0.5, 0), (0, 0.1, 0.5), (-0.4, 0.5, 0.1), (0.4, 0.5, 0.1)])


def landmarks(yaw_deg=0.0, tilt_deg=0.0, scale=40.0, centre=(128.0, 110.0)):
    yaw, tilt = math.radians(yaw_deg), math.radians(tilt_deg)
    x, y, z = HEAD.T
    x = x * math.cos(yaw) + z * math.sin(yaw)
    x, y = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
    return tuple(zip((centre[0] + scale * x).tolist(), (centre[1] + scale * y).tolist(), strict=True))


def words(**head):
    return pose(face_frame(landmarks(**head), 256))


@pytest.mark.parametrize(
    ("yaw", "expected"),
    [
        (0, "facing the camera"),
        (-10, "facing the camera"),
        (25, "head turned slightly to the right"),
        (-25, "head turned slightly to the left"),
        (45, "head turned to the right"),
        (-45, "head turned to the left"),
        (75, "in profile facing right"),
        (-75, "in profile facing left"),
    ],
)
def test_a_turned_head_is_described_as_the_viewer_sees_it(yaw, expected):
    assert words(yaw_deg=yaw) == [expected]


@pytest.mark.parametrize(
    ("tilt", "expected"),
    [
        (15, ["head tilted slightly to the right"]),
        (-15, ["head tilted slightly to the left"]),
        (35, ["head tilted to the right"]),
        (5, []),
    ],
)
def test_a_tilted_head_leans_to_the_side_of_its_top(tilt, expected):
    assert words(tilt_deg=tilt) == ["facing the camera", *expected]


@given(st.floats(-80, 80), st.floats(-40, 40))
def test_the_angles_are_those_of_the_head(yaw, tilt):
    frame = face_frame(landmarks(yaw, tilt), 256)
    assert frame.yaw_deg == pytest.approx(yaw, abs=0.01)
    assert frame.tilt_deg == pytest.approx(tilt, abs=0.01)


@given(st.floats(-80, 80), st.floats(-40, 40))
def test_a_mirrored_head_swaps_left_and_right(yaw, tilt):
    borders = [abs(abs(yaw) - border) for border in (15, 35, 60)] + [abs(abs(tilt) - border) for border in (10, 25)]
    assume(min(borders) > 1e-6)  # on a border the last bit decides, and it is not mirrored
    points = landmarks(yaw, tilt)
    mirrored = tuple((256 - points[i][0], points[i][1]) for i in (1, 0, 2, 4, 3))
    swapped = [w.replace("left", "@").replace("right", "left").replace("@", "right") for w in words_of(points)]
    assert words_of(mirrored) == swapped


def words_of(points):
    return pose(face_frame(points, 256))


@pytest.mark.parametrize(
    ("eyes_apart_px", "expected"),
    [
        (80, "extreme close-up"),
        (55, "close-up"),
        (35, "medium close-up"),
        (20, "medium shot"),
        (12, "medium long shot"),
        (6, "long shot"),
    ],
)
def test_the_shot_follows_the_face_in_the_frame(eyes_apart_px, expected):
    assert shot(face_frame(landmarks(scale=eyes_apart_px), 256)) == expected


def test_a_head_that_turns_keeps_its_shot():
    assert {shot(face_frame(landmarks(yaw_deg=yaw, scale=35), 256)) for yaw in range(-80, 81, 10)} == {
        "medium close-up"
    }


@pytest.mark.parametrize(
    "points", [((9.0, 9.0),) * 5, ((math.nan, 1.0), *landmarks()[1:]), (*landmarks()[:4], (1.0, math.inf))]
)
def test_impossible_landmarks_are_refused(points):
    with pytest.raises(ValueError, match="landmarks"):
        face_frame(points, 256)
