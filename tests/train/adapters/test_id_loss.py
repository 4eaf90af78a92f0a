"""The ID loss: its warp is the filter's alignment, and bilinear sampling written out; who feels its gradient."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from filter.align import ARCFACE_TEMPLATE, Matrix, aligned, inverse, similarity
from filter.config import FilterConfig
from filter.models import load_detector, load_embedder
from shards.encoders.config import BaseConfig
from train.adapters.id_loss import IdLoss, aligned_face, as_pictures, centred, detected, warp
from train.recognisers import load_recogniser

LANDMARKS = ((70.0, 80.0), (118.0, 74.0), (97.0, 105.0), (80.0, 133.0), (116.0, 128.0))


@pytest.fixture(scope="module")
def recogniser():
    return load_recogniser("random", BaseConfig())


def smooth(height, width):
    """A picture without edges, [3, H, W] in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([(6 * x + 3 * y).sin(), (5 * y).cos(), (4 * x * y).sin()]) / 2 + 0.5


@pytest.mark.parametrize("size", [1, 3])
def test_faces_are_cut_as_the_filter_cuts_them(size):
    picture = smooth(200 * size, 180 * size)
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    points = tuple((x * size, y * size) for x, y in LANDMARKS)
    theirs = aligned(pixels, points).astype(np.float32)
    ours = aligned_face(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, points) * 255
    assert np.abs(ours.permute(1, 2, 0).numpy() - theirs).max() < 3


def bilinear(picture: list, to_photo: Matrix, size: int) -> list:
    """One channel, pixel by pixel; zero outside."""
    height, width = len(picture), len(picture[0])

    def at(row, column):
        return picture[row][column] if 0 <= row < height and 0 <= column < width else 0.0

    out = []
    for i in range(size):
        line = []
        for j in range(size):
            x, y = (m[0] * (j + 0.5) + m[1] * (i + 0.5) + m[2] - 0.5 for m in to_photo.tolist())
            left, top = math.floor(x), math.floor(y)
            a, b = x - left, y - top
            line.append(
                (1 - a) * (1 - b) * at(top, left) + a * (1 - b) * at(top, left + 1)
                + (1 - a) * b * at(top + 1, left) + a * b * at(top + 1, left + 1)
            )  # fmt: skip
        out.append(line)
    return out


def test_the_warp_is_bilinear_sampling_written_out():
    picture = torch.randn(1, 12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = ((3.1, 4.2), (6.3, 3.9), (4.8, 6.0), (3.6, 8.1), (6.1, 7.9))
    to_photo = inverse(similarity(points, [(x * 16 / 112, y * 16 / 112) for x, y in ARCFACE_TEMPLATE]))
    found = warp(picture, to_photo, 16)[0]
    assert (found - torch.tensor(bilinear(picture[0].tolist(), to_photo, 16), dtype=torch.float64)).abs().max() < 1e-6


def test_it_is_one_minus_the_cosine_and_nothing_without_a_face(recogniser):
    images = torch.stack([smooth(64, 64), smooth(64, 64).flip(-1), smooth(64, 64).flip(-2)]) * 2 - 1
    targets = torch.nn.functional.normalize(torch.randn(3, 64, generator=torch.Generator().manual_seed(1)), dim=-1)
    images.requires_grad_()
    answers = iter([centred(np.zeros((64, 64, 3))), None, ((20.0, 25.0), (40, 24), (31, 35), (23, 44), (39, 43))])
    asked = []

    def find(picture):
        asked.append(picture)
        return next(answers)

    losses, found = IdLoss(recogniser, find)(images, targets)
    assert found.tolist() == [True, False, True]
    assert [picture.shape for picture in asked] == [(64, 64, 3)] * 3
    places = {0: centred(np.zeros((64, 64, 3))), 2: ((20.0, 25.0), (40, 24), (31, 35), (23, 44), (39, 43))}
    for sample, points in places.items():
        vector = recogniser(aligned_face(images[sample].detach() / 2 + 0.5, points)[None])[0].double().tolist()
        target = targets[sample].double().tolist()
        lengths = math.sqrt(sum(v * v for v in vector)) * math.sqrt(sum(t * t for t in target))
        cosine = sum(v * t for v, t in zip(vector, target, strict=True)) / lengths
        assert abs(float(losses[sample].detach()) - (1 - cosine)) < 1e-6
    losses.sum().backward()
    felt = images.grad.abs().amax((1, 2, 3))
    assert felt[0] > 0
    assert felt[1] == 0
    assert felt[2] > 0
    assert all(p.grad is None and not p.requires_grad for p in recogniser.parameters())


def test_stepping_along_the_gradient_makes_the_face_more_alike(recogniser):
    image, points = smooth(64, 64)[None] * 2 - 1, centred(np.zeros((64, 64, 3)))
    target = recogniser(aligned_face(smooth(64, 64).flip(-1), points)[None])
    loss_of = IdLoss(recogniser, lambda picture: points)
    image.requires_grad_()
    before, _ = loss_of(image, target)
    (gradient,) = torch.autograd.grad(before.sum(), image)
    after, _ = loss_of(image - 0.02 * gradient / gradient.abs().max(), target)
    assert after < before


def test_pictures_are_what_a_detector_wants():
    picture = as_pictures(torch.tensor([-1.0, 0.0, 1.5]).view(1, 3, 1, 1).expand(1, 3, 4, 5))[0]
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("size", [96, 250])
def test_a_real_face_is_found_known_and_felt(shared, monkeypatch, size):
    """φ of the loss on the face that the detector finds is the filter's embedder on it; the way back reaches it."""
    monkeypatch.setenv("PERSONAE_CACHE", str(shared / "models"))
    config = FilterConfig(models="open")
    folder = shared / "photos" / "identities" / "lfw_Ariel_Sharon"
    photos = [Image.open(file).convert("RGB") for file in sorted(folder.iterdir())[:2]]
    pixels = [np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS)) for photo in photos]
    faces = [max(load_detector(config).detect(photo, size // 8), key=lambda face: face.side_px) for photo in pixels]
    vectors = [load_embedder(config).embed(photo, [face])[0] for photo, face in zip(pixels, faces, strict=True)]
    images = torch.stack([torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in pixels]) / 127.5 - 1
    images = torch.cat([images, torch.zeros(1, 3, size, size)]).requires_grad_()  # the last shows nobody
    other = torch.from_numpy(np.stack([vectors[1], vectors[0], vectors[0]]))
    loss_of = IdLoss(load_recogniser("open", BaseConfig(face="open")), detected(config))
    losses, found = loss_of(images, other)
    assert found.tolist() == [True, True, False]
    assert float(losses[2].detach()) == 0
    assert losses[:2].tolist() == pytest.approx([1 - float(vectors[0] @ vectors[1])] * 2, abs=0.02)
    assert losses[0] < 0.8
    (felt,) = torch.autograd.grad(losses.sum(), images)
    left, top, right, bottom = (round(side) for side in faces[0].box_xyxy_px)
    inside = felt[0, :, max(0, top) : bottom, max(0, left) : right].abs().sum()
    assert inside > 0.8 * felt[0].abs().sum() > 0
    assert not felt[2].any()
