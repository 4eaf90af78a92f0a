"""BoLID's follow-up: the weighting beside a written-out one, views in any number and order, exact no-ops."""

import dataclasses
import math

import pytest
import torch

from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.adapter import Conditions
from train.adapters.bolid_latent import BodyVector, BolidLatent, weighted
from train.adapters.settings import BolidLatentSettings
from train.base_models import load_base
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.step import denoise, step_at


def made(count=3, **settings):
    base = load_base(BaseConfig(), clip=True)
    adapter = load_adapter(BolidLatentSettings(body_width=24, **settings), base)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return base, adapter, Synthetic(base, BolidLatent.needs(adapter.settings), Draws(0), 32).held_out(count)


def call(base, batch, adapter):
    return denoise(base, batch.latents, torch.tensor([3, 300, 900])[: len(batch)], adapter.conditions(batch))


def with_references(batch, **changes):
    return batch.replace(references=dataclasses.replace(batch.references, **changes))


def dropped(batch, name):
    yes = torch.ones(len(batch), dtype=torch.bool)
    return batch.replace(drop=dataclasses.replace(batch.drop, **{name: yes}))


def test_the_weighting_equals_a_written_out_one():
    images = torch.rand(2, 3, 12, 10, dtype=torch.float64) * 2 - 1
    keypoints = torch.rand(2, 12, 3, dtype=torch.float64)
    keypoints[1, :, 2] = 0.0  # no body: the picture stays
    sigma, floor = 0.11, 0.1
    found = weighted(images, keypoints, sigma, floor)
    for y in range(12):
        for x in range(10):
            nearest = max(
                math.exp(-(((x + 0.5) / 10 - float(px)) ** 2 + ((y + 0.5) / 12 - float(py)) ** 2) / (2 * sigma**2))
                for px, py, seen in keypoints[0]
                if seen >= 0.5
            )
            expected = (images[0, :, y, x] + 1) * (floor + (1 - floor) * nearest) - 1
            assert found[0, :, y, x].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert torch.allclose(found[1], images[1])


@torch.no_grad()
def test_views_in_any_number_and_order_give_one_vector():
    torch.manual_seed(0)
    vector = BodyVector(4, 24)
    views = torch.randn(1, 5, 4, 16, 16)
    all_there = torch.ones(1, 5, dtype=torch.bool)
    whole = vector(views, all_there)
    assert whole.shape == (1, 24)
    assert torch.allclose(vector(views[:, [3, 1, 4, 0, 2]], all_there), whole, atol=1e-6)
    padded = torch.cat([views, torch.full((1, 2, 4, 16, 16), 9.0)], dim=1)
    present = torch.tensor([[True] * 5 + [False] * 2])
    assert torch.allclose(vector(padded, present), whole, atol=1e-6)
    assert not torch.allclose(vector(views[:, :4], all_there[:, :4]), whole, atol=1e-4)
    assert not vector(views, ~all_there).any()
    assert vector(torch.randn(1, 1, 4, 64, 48), torch.ones(1, 1, dtype=torch.bool)).shape == (1, 24)


@torch.no_grad()
def test_absent_conditions_are_exact_no_ops():
    base, adapter, batch = made()
    states = batch.prompts.states["general"]
    plain = denoise(
        base, batch.latents, torch.tensor([3, 300, 900]), Conditions(states.hidden, states.pooled, batch.time_ids)
    )
    assert torch.equal(call(base, dropped(batch, "identity"), adapter), plain)
    alone = dropped(batch, "body")
    turned = with_references(alone, bodies=alone.references.bodies.flip(0))
    assert torch.equal(call(base, alone, adapter), call(base, turned, adapter))
    assert not torch.equal(call(base, alone, adapter), plain)


@torch.no_grad()
def test_it_works_from_text_and_the_body_alone():
    """λ_ref = 0: the reference's face changes nothing, its body does."""
    base, adapter, batch = made(scales={"reference": 0.0})
    clip = batch.references.clip
    other_face = with_references(batch, clip=dataclasses.replace(clip, pooled=clip.pooled.roll(1, 0)))
    other_body = with_references(batch, bodies=batch.references.bodies.flip(0))
    seen = call(base, batch, adapter)
    assert torch.equal(call(base, other_face, adapter), seen)
    assert not torch.equal(call(base, other_body, adapter), seen)


def test_losses_reach_the_body_vector():
    base, adapter, batch = made(keypoint_weight=0.5, pose_network="tiny", clip_weight=0.5, clip_model="tiny")
    keypoints = batch.keypoints.clone()
    keypoints[..., 2] = 1
    batch = batch.replace(keypoints=keypoints)
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(3))
    terms = adapter.losses(step_at(base, batch, Draws(0), noise, torch.tensor([10, 100, 500])))
    assert set(terms) == {"diffusion", "keypoints", "clip"}
    (terms["keypoints"].per_sample.sum() + terms["clip"].per_sample.sum()).backward()
    for group in adapter.groups():
        assert any(p.grad is not None and p.grad.any() for p in group.parameters), group.name
    assert all(p.grad is None for module in (base.vae, base.clip, base.text) for p in module.parameters())
