"""Sample grids: every tile in its place, the same picture again, the adapter as it was."""

import numpy as np
import torch
from PIL import Image

from shards.encoders.config import BaseConfig
from train.adapters.settings import NoAdapterSettings
from train.base_models import load_base
from train.config import SamplesConfig
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.grids import TILE_PX, Row, draw, sample_grid, text_tile

STEP, HEAD, GAP = TILE_PX + 6, 26, 6


def tile(grid, row, place):
    left, top = GAP + place * STEP, HEAD + row * STEP
    return np.asarray(grid)[top : top + TILE_PX, left : left + TILE_PX]


def plain(colour, side=16):
    return Image.new("RGB", (side, side), colour)


def test_references_prompt_and_pictures_stand_in_their_places():
    rows = [
        Row([plain("red"), plain("green")], [("one", plain("blue")), ("two", plain("black", 400))]),
        Row([plain("yellow")], [("three", plain("cyan")), ("four", plain("magenta"))]),
    ]
    grid = draw(rows)
    assert grid.size == (6 * STEP + GAP, HEAD + 2 * STEP)
    expected = [["red", "green", None, "blue", None, "black"], ["yellow", "white", None, "cyan", None, "magenta"]]
    for row, colours in enumerate(expected):
        for place, colour in enumerate(colours):
            if colour is not None:
                assert (tile(grid, row, place) == np.asarray(plain(colour, 1))).all(), (row, place)
    assert np.array_equal(tile(grid, 0, 2), np.asarray(text_tile("one")))
    assert np.array_equal(tile(grid, 1, 4), np.asarray(text_tile("four")))


def test_text_is_wrapped_and_cut_with_an_ellipsis():
    long = np.asarray(text_tile("standing in the park " * 40))
    assert (long[:, -2:] == 255).all(), "nothing runs over the edge"
    assert (long[-4:] == 255).all()
    assert not np.array_equal(long, np.asarray(text_tile("standing in the park " * 4)))


def test_a_grid_of_held_out_people(told):
    base = load_base(BaseConfig(), clip=True)
    adapter = told(NoAdapterSettings(), base)
    source = Synthetic(base, adapter.needs(None), Draws(0), 32, identities=2)
    samples = SamplesConfig(identities=4, steps=2)
    grid = sample_grid(base, adapter, source, samples)
    assert grid.size == (3 * STEP + GAP, HEAD + 2 * STEP), "two people are two rows; a reference, prompt, picture"
    assert np.array_equal(np.asarray(sample_grid(base, adapter, source, samples)), np.asarray(grid))
    assert adapter.training
    assert not np.array_equal(tile(grid, 0, 2), tile(grid, 1, 2))
    state = torch.get_rng_state()
    asked = sample_grid(base, adapter, source, samples.model_copy(update={"prompts": ("a man", "a woman img in red")}))
    assert torch.equal(torch.get_rng_state(), state), "no random numbers of the run are used up"
    assert asked.size == (5 * STEP + GAP, HEAD + 2 * STEP)
    assert np.array_equal(tile(asked, 0, 3), np.asarray(text_tile("a woman in red")))
    assert np.array_equal(tile(asked, 0, 0), tile(grid, 0, 0))
