"""Datasets of people who are colours: each photo is noise of its person's colour, written with the shards' writer."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from crawl.output import Output
from crawl.photo import bucket_of, identity_key, photo_key
from shards.encoders.config import BaseConfig
from shards.index import write_index
from shards.sample import Sample
from shards.tar import sample_size
from shards.write import write_bucket
from train.adapters.adapter import Needs
from train.base_models import load_base
from train.config import DataConfig
from train.data.dataset import TrainData
from train.data.draws import Draws

BUCKETS = 2
SIZE_PX = 64
FACE_PX = 40
EVERYTHING = Needs(
    references=True, pixels=True, clip=True, face=True, bodies=True, keypoints=True,
    text=("general", "background", "body"), clip_states=("last", "penultimate", "pooled", "scales"),
)  # fmt: skip


def _jpeg(colour, seed, side):
    noise = np.random.RandomState(seed).randint(-40, 40, (side, side, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _sample(person, number, changes):
    identity = identity_key(f"Person {person}")
    key = photo_key(identity, f"{number}.jpg", "")
    seed = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)
    colour = np.random.RandomState(person).randint(60, 200, 3)
    metadata = {
        "key": key, "identity": identity, "general": f"a photo of a person, number {number}",
        "background": f"in front of a wall {number}", "body": f"in a coat {person}", "class_word": "person",
        "trigger_position": 19, "original_size": [300 + number, 200], "crop_top_left": [16, 8], "size_px": SIZE_PX,
        "face_xyxy_px": [20.0, 10.0, 40.5, 35.0],
        "landmarks_px": [[25, 20], [35, 20], [30, 25], [26, 30], [34, 30]],
        "keypoints": [[4.0 * i, 3.0 * i] for i in range(12)], "keypoint_scores": [0.5] * 12, "keypoints_reason": "",
    }  # fmt: skip
    metadata |= changes(person, number)
    return Sample(key, identity, _jpeg(colour, seed, SIZE_PX), _jpeg(colour, seed + 1, FACE_PX), metadata)


@pytest.fixture(scope="session")
def write_people():
    """(folder, photos of each person, (person, number) → other metadata) → the dataset's url."""

    def write(url, counts=(5, 4, 3, 6), changes=lambda person, number: {}, max_bytes=30_000):
        output, shards, rows = Output(str(url)), [], []
        people = [[_sample(person, i, changes) for i in range(count)] for person, count in enumerate(counts)]
        for bucket in range(BUCKETS):
            mine = [sample for photos in people for sample in photos if bucket_of(sample.identity, BUCKETS) == bucket]
            mine.sort(key=lambda sample: (sample.identity, sample.key))
            sizes = [(sample.identity, sample_size(sample)) for sample in mine]
            new_shards, new_rows = write_bucket(output, bucket, mine, sizes, max_bytes)
            shards, rows = shards + new_shards, rows + new_rows
        write_index(output, BUCKETS, shards, rows)
        return str(url)

    return write


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
