"""Runs as if trained, a dataset of colours, a detector and a pose model that see the same everywhere."""

import pytest
import torch

from filter.faces import Face
from filter.keypoints import Pose
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.base_models import load_base
from train.checkpoint import Meta, save
from train.evaluate.settings import EvaluatePrompt, EvaluateSettings
from train.weights import collect

FACE = Face((60.0, 50.0, 190.0, 190.0), ((95, 100), (155, 100), (125, 130), (101, 160), (149, 160)), 1.0)
PROMPT = EvaluatePrompt(
    name="coat",
    whole="a photo of a man in a red coat, in front of a wall",
    general="a photo of a man",
    body="in a red coat",
    background="in front of a wall",
)


class Detector:
    """One face where a face is usual."""

    def detect(self, image, min_face_px):
        return [FACE] if image.mean() > 20 else []


class Skeleton:
    """The same body in every picture: one point less is seen than in the photos."""

    def estimate(self, photos, faces):
        points = tuple((4.0 * i * photo.width / 64, 3.0 * i * photo.height / 64) for photo in photos for i in range(12))
        return [Pose(points, (0.0, *(1.0,) * 11))]


@pytest.fixture
def faces(monkeypatch):
    monkeypatch.setattr("train.evaluate.faces.load_detector", lambda config: Detector())
    monkeypatch.setattr("train.evaluate.meters.load_pose", lambda config: Skeleton())


@pytest.fixture(scope="session")
def people(tmp_path_factory, write_people):
    """18 photos of four people."""
    return write_people(tmp_path_factory.mktemp("people") / "dataset")


@pytest.fixture(scope="session")
def settings():
    """Small, with one prompt; keywords change it."""

    def make(**keys):
        small = {
            "prompts": (PROMPT,), "people": 2, "images": 2, "photos": 2, "steps": 1, "merge_step": 0, "guidance": 1.0,
            "embedders": ("embedded",), "sets": ("in_train",), "size_px": 32,
        }  # fmt: skip
        return EvaluateSettings.model_validate(small | keys)

    return make


@pytest.fixture(scope="session")
def trained_run(run_in):
    """(folder, dataset, adapter) → the folder of a run whose adapter is not as it began."""

    def make(folder, dataset, **adapter):
        run = run_in(folder, data={"dataset": dataset}, adapter=adapter)
        base = load_base(BaseConfig(), clip=True)
        method = load_adapter(run.adapter, base)
        generator = torch.Generator().manual_seed(1)
        for parameter in method.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        save(folder, Meta(step=4, run=run, data="none"), {"weights": collect(base, method, frozenset())})
        return str(folder)

    return make
