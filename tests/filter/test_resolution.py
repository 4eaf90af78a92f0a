"""Measures of a photo mean what they say, at any resolution."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from filter.config import FilterConfig
from filter.resolution import check_resolution, measure

RNG = np.random.default_rng(7)
TEXTURE = Image.fromarray(RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)).resize(
    (900, 600), Image.Resampling.BICUBIC
)


def test_sharpness_falls_with_blur_and_holds_with_resolution():
    sharp = measure(TEXTURE).sharpness
    blurred = measure(TEXTURE.filter(ImageFilter.GaussianBlur(6))).sharpness
    twice = measure(TEXTURE.resize((1800, 1200), Image.Resampling.BICUBIC)).sharpness
    assert blurred < sharp / 3
    assert twice == pytest.approx(sharp, rel=0.2)


def test_colourfulness_is_zero_for_grey_and_one_for_pure_red():
    assert measure(Image.new("RGB", (600, 600), "red")).colourfulness == 1
    assert measure(Image.new("RGB", (600, 600), (90, 90, 90))).colourfulness == 0
    half = Image.new("RGB", (600, 600), (51, 0, 0))
    half.paste((102, 153, 0), (0, 0, 600, 300))
    assert measure(half).colourfulness == pytest.approx(0.4)


@pytest.mark.parametrize("size", [(512, 512), (512, 300), (3, 3), (500, 3)])
def test_sharpness_is_the_variance_of_the_laplacian(size):
    grey = RNG.integers(0, 256, size[::-1], dtype=np.uint8)
    level = grey.astype(np.float64)
    edges = level[1:-1, :-2] + level[1:-1, 2:] + level[:-2, 1:-1] + level[2:, 1:-1] - 4 * level[1:-1, 1:-1]
    assert measure(Image.fromarray(grey).convert("RGB")).sharpness == pytest.approx(edges.var(), rel=1e-12)


def test_the_sharpest_picture_there_can_be_does_not_overflow():
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert measure(Image.fromarray(board).convert("RGB")).sharpness == 1020**2


def test_hashes_see_through_size_and_mirroring_but_not_through_another_picture():
    small = TEXTURE.resize((450, 300), Image.Resampling.LANCZOS)
    one, two, mirrored = measure(TEXTURE), measure(small), measure(TEXTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    other = measure(TEXTURE.transpose(Image.Transpose.FLIP_TOP_BOTTOM))

    def differing(a, b):
        return int(np.bitwise_count(np.int64(a) ^ np.int64(b)))

    assert differing(one.dhash, two.dhash) <= 2
    assert differing(one.dhash, mirrored.mirrored_dhash) <= 2
    assert differing(one.dhash, mirrored.dhash) > 12
    assert differing(one.dhash, other.dhash) > 12


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (2, 2)])
def test_the_smallest_photos_are_measured_too(size):
    assert measure(Image.new("RGB", size, (3, 3, 3))).sharpness == 0


@pytest.mark.parametrize(
    ("settings", "reason", "value", "threshold"),
    [
        ({"min_side_px": 601}, "short_side", 600, 601),
        ({"min_megapixels": 0.6}, "megapixels", 0.54, 0.6),
        ({"max_aspect_ratio": 1.4}, "aspect_ratio", 1.5, 1.4),
        ({"min_sharpness": 1e9}, "blurred", None, 1e9),
        ({"min_colourfulness": 0.99}, "grey_scale", None, 0.99),
    ],
)
def test_each_threshold_has_its_reason(settings, reason, value, threshold):
    rejection = check_resolution(measure(TEXTURE), FilterConfig(**{"min_side_px": 600, **settings}))
    assert (rejection.stage, rejection.reason, rejection.threshold) == ("resolution", reason, threshold)
    if value is not None:
        assert rejection.value == pytest.approx(value)


def test_thresholds_are_reached_by_equality():
    assert check_resolution(measure(TEXTURE), FilterConfig(min_side_px=600, max_aspect_ratio=1.5)) is None
