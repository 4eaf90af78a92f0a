"""Training data on a dataset of people who are colours."""

from __future__ import annotations

import pytest

from shards.encoders.config import BaseConfig
from train.adapters.adapter import Needs
from train.base_models import load_base
from train.config import DataConfig
from train.data.dataset import TrainData
from train.data.draws import Draws

EVERYTHING = Needs(
    references=True, pixels=True, clip=True, face=True, bodies=True, keypoints=True,
    text=("general", "background", "body"), clip_states=("last", "penultimate", "pooled", "scales"),
)  # fmt: skip


@pytest.fixture(scope="session")
def people(tmp_path_factory, write_people):
    """18 photos of four people."""
    return write_people(tmp_path_factory.mktemp("people") / "dataset")


@pytest.fixture(scope="session")
def base():
    """Tiny, with all encoders."""
    return load_base(BaseConfig(), clip=True, face=True)


@pytest.fixture(scope="session")
def train_data(base):
    """(dataset, needs, **data settings) → TrainData."""

    def make(url, needs=EVERYTHING, seed=0, base=base, **settings):
        return TrainData(DataConfig(dataset=url, **settings), needs, base, Draws(seed))

    return make
