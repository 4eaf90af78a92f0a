"""Alignment finds the similarity it was given, and samples the photo where it says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filter.align import ARCFACE_TEMPLATE, aligned, inverse, similarity

ANGLES = st.floats(-math.pi, math.pi)
SHIFTS = st.floats(-3000, 3000)


def moved(points, angle, scale, dx, dy):
    rotation = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return [tuple(rotation @ point + (dx, dy)) for point in points]


@given(ANGLES, st.floats(0.05, 40), SHIFTS, SHIFTS)
def test_a_similarity_is_found_exactly(angle, scale, dx, dy):
    there = moved(ARCFACE_TEMPLATE, angle, scale, dx, dy)
    matrix = similarity(ARCFACE_TEMPLATE, there)
    found = np.column_stack([ARCFACE_TEMPLATE, np.ones(5)]) @ matrix.T
    np.testing.assert_allclose(found, there, atol=1e-6 * (1 + scale * 100 + abs(dx) + abs(dy)))
    back = np.column_stack([there, np.ones(5)]) @ inverse(matrix).T
    np.testing.assert_allclose(back, ARCFACE_TEMPLATE, atol=1e-6 * (1 + (abs(dx) + abs(dy)) / scale))


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=5, max_size=5), ANGLES)
def test_no_other_similarity_fits_better(noise, angle):
    there = [(x + a, y + b) for (x, y), (a, b) in zip(moved(ARCFACE_TEMPLATE, angle, 2, 9, -4), noise, strict=True)]
    best = similarity(ARCFACE_TEMPLATE, there)
    source = np.column_stack([ARCFACE_TEMPLATE, np.ones(5)])

    def error(matrix):
        return ((source @ matrix.T - there) ** 2).sum()

    for row, column in ((0, 0), (1, 0), (0, 2), (1, 2)):
        for step in (-1e-3, 1e-3):
            other = best.copy()
            other[row, column] += step
            if column == 0:  # stay a similarity: [a -b; b a]
                other[1 - row, 1] += step if row == 0 else -step
            assert error(best) <= error(other) + 1e-6


def test_a_mirrored_face_is_not_mirrored_back():
    mirrored = [(112 - x, y) for x, y in ARCFACE_TEMPLATE]
    assert np.linalg.det(similarity(mirrored, ARCFACE_TEMPLATE)[:, :2]) > 0


def gradient(height, width):
    """Red grows to the right, green downwards, 0 to 255 from edge to edge; Pillow rounds it by up to 1 twice."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    channels = [columns * 255 / width, rows * 255 / height, np.zeros((height, width))]
    return np.stack(channels, 2).round().astype(np.uint8)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.3, 5.0, 14.0])
def test_the_crop_shows_the_place_the_landmarks_say(scale):
    photo = gradient(2000, 3000)
    landmarks = moved(ARCFACE_TEMPLATE, 0.3, scale, 900, 300)
    crop = aligned(photo, landmarks).astype(float)
    assert crop.shape == (112, 112, 3)
    to_photo = similarity(ARCFACE_TEMPLATE, landmarks)
    for x, y in ((10, 20), (56, 56), (100, 90)):
        photo_x, photo_y = to_photo @ (x + 0.5, y + 0.5, 1)
        assert crop[y, x, 0] == pytest.approx(photo_x * 255 / 3000, abs=1.7)
        assert crop[y, x, 1] == pytest.approx(photo_y * 255 / 2000, abs=1.7)


def test_a_large_face_is_averaged_not_sampled():
    checks = np.zeros((1200, 1200, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    crop = aligned(checks, moved(ARCFACE_TEMPLATE, 0, 9.5, 20, 20))
    assert np.abs(crop.astype(float) - 127.5).max() < 2


def test_beyond_the_photo_is_black():
    white = np.full((200, 200, 3), 255, np.uint8)
    crop = aligned(white, moved(ARCFACE_TEMPLATE, 0, 1, -40, -30))
    assert crop[:25, :].max() == 0
    assert crop[:, :35].max() == 0
    assert crop[40:, 50:].min() == 255
    assert aligned(white, moved(ARCFACE_TEMPLATE, 0, 1, 5000, 5000)).max() == 0


def test_a_larger_crop_shows_the_same_place():
    photo = gradient(1000, 1000)
    landmarks = moved(ARCFACE_TEMPLATE, -0.2, 3, 200, 300)
    large = aligned(photo, landmarks, 224).astype(float)
    small = aligned(photo, landmarks, 112).astype(float)
    halved = large.reshape(112, 2, 112, 2, 3).mean((1, 3))
    assert np.abs(halved - small).max() < 3
