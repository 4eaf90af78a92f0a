"""Crops lie in the photo, hold the whole face, and frame as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filter.crop import box_into_crop, face_square, into_crop, training_square


@st.composite
def photos_with_a_face(draw):
    height, width = draw(st.integers(64, 4000)), draw(st.integers(64, 4000))
    side = draw(st.floats(16, min(height, width) - 3))
    tall = draw(st.floats(0.7, 1.3))
    face_height = min(side * tall, height - 3)
    left = draw(st.floats(-side / 3, width - side * 2 / 3))
    top = draw(st.floats(-face_height / 3, height - face_height * 2 / 3))
    return height, width, (left, top, left + side, top + face_height)


@pytest.mark.parametrize("framing", ["portrait", "body"])
@given(photos_with_a_face())
def test_the_square_is_inside_and_holds_the_visible_face(framing, case):
    height, width, face = case
    left, top, right, bottom = training_square(height, width, face, framing, 0.1)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == bottom - top
    if right - left >= max(face[2] - face[0], face[3] - face[1]) + 2:
        assert left <= max(face[0], 0) + 1
        assert right >= min(face[2], width) - 1
        assert top <= max(face[1], 0) + 1
        assert bottom >= min(face[3], height) - 1


@given(photos_with_a_face())
def test_a_portrait_gives_the_face_its_share(case):
    height, width, face = case
    left, _, right, _ = training_square(height, width, face, "portrait", 0.1)
    visible = (min(face[2], width) - max(face[0], 0)) * (min(face[3], height) - max(face[1], 0))
    longest = max(min(face[2], width) - max(face[0], 0), min(face[3], height) - max(face[1], 0))
    assert visible / (right - left) ** 2 >= 0.0999 or right - left <= longest + 3


def test_body_takes_all_that_fits_below_the_face():
    left, top, right, bottom = training_square(3000, 1000, (450, 300, 550, 420), "body", 0.1)
    assert right - left == 1000
    assert top <= 300 - 50
    assert bottom >= 1100


@given(photos_with_a_face())
def test_the_face_crop_is_a_square_inside(case):
    height, width, face = case
    left, top, right, bottom = face_square(height, width, face)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == bottom - top


def test_the_face_crop_adds_a_fifth_on_each_side():
    assert face_square(1000, 1000, (400, 400, 500, 480)) == (380, 370, 520, 510)


def test_points_and_boxes_go_into_the_crop():
    assert into_crop(((110.0, 220.0),), (100, 200, 300, 400), 100) == ((5.0, 10.0),)
    assert box_into_crop((100.0, 200.0, 300.0, 400.0), (100, 200, 300, 400), 512) == (0.0, 0.0, 512.0, 512.0)
