"""`python -m train generate` with a face photo, a body photo and a pose."""

import numpy as np
import pytest
import torch
from PIL import Image

from crawl.errors import InputError
from crawl.photo import Rejection
from filter.faces import Face
from filter.keypoints import Pose
from shards.encoders.config import BaseConfig
from train.__main__ import main
from train.adapters import load_adapter
from train.base_models import load_base
from train.checkpoint import Meta, save
from train.config import TrainRun
from train.weights import collect

FACE = Face((60.0, 50.0, 120.0, 120.0), ((75, 75), (105, 75), (90, 90), (78, 105), (102, 105)), 1.0)


class Detector:
    def detect(self, image, min_face_px):
        return [FACE]


class Body:
    """Twelve points whose place depends on the photo's first pixel; nobody in a black one."""

    def estimate(self, photos, faces):
        shift = photos[0].getpixel((0, 0))[0] / 4
        if shift == 0:
            return [Rejection("pose", "no_body", 0.1, 0.5)]
        return [Pose(tuple((40.0 + shift, 20.0 + 10 * n) for n in range(12)), (0.9,) * 12)]


@pytest.fixture(autouse=True)
def models(monkeypatch):
    monkeypatch.setattr("train.portraits.load_detector", lambda config: Detector())
    monkeypatch.setattr("train.portraits.load_pose", lambda config: Body())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, red in (("one", 200), ("other", 100), ("black", 0)):
        noise = np.random.RandomState(red).randint(1, 40, (180, 200, 3))
        picture = np.clip(noise + np.array((red, 60, 60)), 0, 255).astype(np.uint8)
        picture[0, 0] = red
        Image.fromarray(picture).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A run folder of an adapter as if trained."""

    def make(**adapter):
        folder = tmp_path_factory.mktemp(adapter["kind"])
        run = TrainRun.model_validate(
            {
                "output": str(folder / "run"), "data": {"dataset": "none", "size_px": 32}, "adapter": adapter,
                "loop": {"steps": 1, "batch_size": 1},
            }
        )  # fmt: skip
        base = load_base(BaseConfig(), clip=True, face=True)
        made = load_adapter(run.adapter, base)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        save(folder / "run", Meta(step=1, run=run, data="none"), {"weights": collect(base, made, frozenset())})
        return folder / "run"

    return make


def picture(run, photos, output, *arguments):
    face = ["--reference", str(photos / "one.png")]
    command = ["generate", str(run), "--prompt", "a photo of a woman", *face, "--output", str(output), "--steps", "2"]
    if "bolid" in str(run):
        command += ["--scale", "body=30"]  # what is small of random weights is to be seen in 8 bits
    assert main([*command, *arguments]) == 0
    return (output / "0000.png").read_bytes()


@pytest.mark.parametrize("settings", [{"kind": "bolid", "depth": 1}, {"kind": "bolid_latent", "body_width": 24}])
def test_body_and_pose_come_from_photos_of_their_own(run_of, photos, tmp_path, settings):
    run = run_of(**settings)
    plain = picture(run, photos, tmp_path / "plain")
    look = picture(run, photos, tmp_path / "look", "--look", str(photos / "other.png"))
    assert look != plain
    if settings["kind"] == "bolid":
        one = picture(run, photos, tmp_path / "one", "--pose", str(photos / "one.png"))
        other = picture(run, photos, tmp_path / "other", "--pose", str(photos / "other.png"))
        assert (one != plain, other != plain, one != other) == (True, True, True)


def test_what_a_method_does_not_take_and_photos_without_a_body_are_one_line(run_of, photos, tmp_path):
    run = run_of(kind="ip_adapter")
    with pytest.raises(InputError, match=r"^--pose: ip_adapter takes none$"):
        picture(run, photos, tmp_path, "--pose", str(photos / "other.png"))
    with pytest.raises(InputError, match=r"^reference: .*black.png: no body found with this face: no_body$"):
        picture(run, photos, tmp_path, "--look", str(photos / "black.png"))
