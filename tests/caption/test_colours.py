"""Colours get the names people give them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

from caption.colours import dominant, name, to_lab

EXPECTED = {
    "black": "black", "white": "white", "gray": "grey", "silver": "light grey", "red": "red", "darkred": "dark red",
    "orange": "orange", "yellow": "yellow", "gold": "yellow", "lime": "light green", "green": "green",
    "darkgreen": "dark green", "teal": "turquoise", "blue": "blue", "navy": "dark blue", "lightblue": "light blue",
    "skyblue": "light blue", "purple": "purple", "indigo": "dark purple", "pink": "pink", "hotpink": "pink",
    "saddlebrown": "brown", "sienna": "brown", "beige": "beige", "tan": "beige", "olive": "green", "salmon": "pink",
    "crimson": "red", "whitesmoke": "white", "#101418": "black", "#33363a": "dark grey", "#1c2440": "dark blue",
}  # fmt: skip
TERMS = [
    "black",
    "grey",
    "white",
    "red",
    "orange",
    "yellow",
    "green",
    "turquoise",
    "blue",
    "purple",
    "pink",
    "brown",
    "beige",
]


def lab_of(*colours):
    return to_lab(np.array([ImageColor.getrgb(c)[:3] for c in colours], np.uint8))


@pytest.mark.parametrize(("colour", "words"), EXPECTED.items())
def test_well_known_colours_have_their_names(colour, words):
    assert name(lab_of(colour)[0]) == words


def test_lab_is_the_standard_one():
    expected = [[53.24, 80.09, 67.20], [100, 0, 0], [0, 0, 0], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab_of("red", "white", "black", "blue"), expected, atol=0.02)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_every_colour_has_a_name(rgb):
    words = name(to_lab(np.array(rgb, np.uint8))).split()
    assert words[-1] in TERMS
    assert len(words) == 1 or (words[0] in ("dark", "light") and len(words) == 2)


@given(st.integers(0, 255))
def test_greys_never_have_a_hue(level):
    assert name(to_lab(np.array([level] * 3, np.uint8))).split()[-1] in ("black", "grey", "white")


def test_a_second_colour_is_named_when_it_covers_a_quarter():
    assert dominant(lab_of(*["navy"] * 70, *["white"] * 30)) == ["dark blue", "white"]
    assert dominant(lab_of(*["navy"] * 80, *["white"] * 20)) == ["dark blue"]


def test_two_shades_that_look_alike_are_one_colour():
    assert dominant(lab_of(*["#141414"] * 60, *["#303030"] * 40)) == ["black"]


def test_one_pixel_is_enough():
    assert dominant(lab_of("red")) == ["red"]
