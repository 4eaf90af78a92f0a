"""Where a pose lies in a crop, and which points can be seen there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filter.keypoints import BONES, NAMES, Pose, in_crop

PLACES = st.floats(-500, 1500, allow_nan=False)


def pose(points, score=0.75):
    return Pose(tuple(points), (score,) * len(points))


def test_twelve_points_in_cocos_order_left_before_right():
    assert len(NAMES) == 12
    assert [name.split()[0] for name in NAMES] == ["left", "right"] * 6
    assert [name.split()[1] for name in NAMES[::2]] == ["shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    assert {end for bone in BONES for end in bone} == set(range(12))


@pytest.mark.parametrize(
    ("point", "expected", "seen"),
    [
        ((100.0, 50.0), (0.0, 0.0), True),
        ((300.0, 250.0), (512.0, 512.0), True),
        ((200.0, 100.0), (256.0, 128.0), True),
        ((99.0, 100.0), (-2.56, 128.0), False),
        ((200.0, 251.0), (256.0, 514.56), False),
    ],
)
def test_a_point_is_moved_and_scaled_and_outside_it_cannot_be_seen(point, expected, seen):
    points, scores = in_crop(pose([point] * 12), (100, 50, 300, 250), 512)
    assert np.array(points) == pytest.approx(np.array([expected] * 12))
    assert scores == (0.75 if seen else 0.0,) * 12


@given(st.lists(st.tuples(PLACES, PLACES), min_size=12, max_size=12))
def test_scores_never_grow_and_places_are_never_lost(points):
    moved, scores = in_crop(pose(points), (0, 0, 1000, 1000), 100)
    assert np.array(moved) * 10 == pytest.approx(np.array(points))
    # of the moved points: a ten-times smaller place may round onto the edge
    assert all((score > 0) == (0 <= x <= 100 and 0 <= y <= 100) for score, (x, y) in zip(scores, moved, strict=True))
