"""BoLID: exact no-ops, what each condition reaches, losses beside written-out ones, gradients where they belong."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.adapter import Conditions
from train.adapters.body_encoder import PoseTokens, person_box
from train.adapters.bolid import Bolid
from train.adapters.bolid_losses import ClipScore, PoseNetwork, cut, keypoint_loss, soft_argmax
from train.adapters.settings import BolidSettings
from train.base_models import load_base
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.step import denoise, step_at

BOTH = {"keypoint_weight": 0.5, "pose_network": "tiny", "clip_weight": 0.25, "clip_model": "tiny"}


def made(count=3, **settings):
    """A tiny base, the adapter as if trained, held-out samples of people that are patterns, all joints visible."""
    base = load_base(BaseConfig(), clip=True, face=True)
    adapter = load_adapter(BolidSettings(depth=1, **settings), base)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    batch = Synthetic(base, Bolid.needs(adapter.settings), Draws(0), 32).held_out(count)
    keypoints = batch.keypoints.clone()
    keypoints[..., 2] = 1
    return base, adapter, batch.replace(keypoints=keypoints)


def call(base, batch, conditions):
    return denoise(base, batch.latents, torch.tensor([3, 300, 900])[: len(batch)], conditions)


def text_only(base, batch):
    states = batch.prompts.states["general"]
    return call(base, batch, Conditions(states.hidden, states.pooled, batch.time_ids))


def dropped(batch, **changes):
    yes = torch.ones(len(batch), dtype=torch.bool)
    return batch.replace(drop=dataclasses.replace(batch.drop, **dict.fromkeys(changes, yes)))


def with_references(batch, **changes):
    return batch.replace(references=dataclasses.replace(batch.references, **changes))


@torch.no_grad()
def test_without_face_and_body_it_is_the_base_exactly():
    base, adapter, batch = made()
    nothing = dropped(batch, identity=True, body=True)
    assert torch.equal(call(base, nothing, adapter.conditions(nothing)), text_only(base, nothing))


@torch.no_grad()
def test_face_body_and_pose_each_reach_the_picture_and_only_when_they_are_there():
    base, adapter, batch = made()
    everything = call(base, batch, adapter.conditions(batch))

    def changed(batch):
        return not torch.equal(call(base, batch, adapter.conditions(batch)), everything)

    refs = batch.references
    assert changed(with_references(batch, embeddings=refs.embeddings.roll(1, 0)))
    assert changed(with_references(batch, bodies=refs.bodies.flip(0)))
    moved = batch.keypoints.clone()
    moved[:, 3, 0] = 1 - moved[:, 3, 0]
    assert changed(batch.replace(keypoints=moved))

    without_body, base_of_it = dropped(batch, body=True), None
    base_of_it = call(base, without_body, adapter.conditions(without_body))
    for other in (with_references(without_body, bodies=refs.bodies.flip(0)), without_body.replace(keypoints=moved)):
        assert torch.equal(call(base, other, adapter.conditions(other)), base_of_it)
    only_pose = dropped(batch, identity=True)
    other = with_references(only_pose, bodies=refs.bodies.flip(0), embeddings=refs.embeddings.roll(1, 0))
    assert torch.equal(*(call(base, b, adapter.conditions(b)) for b in (only_pose, other)))


@torch.no_grad()
def test_where_a_hidden_joint_is_said_to_be_changes_nothing():
    base, adapter, batch = made()
    hidden = batch.keypoints.clone()
    hidden[:, 5, 2] = 0.2
    elsewhere = hidden.clone()
    elsewhere[:, 5, :2] = 7.0
    one, other = (batch.replace(keypoints=keypoints) for keypoints in (hidden, elsewhere))
    assert torch.equal(*(call(base, b, adapter.conditions(b)) for b in (one, other)))


@torch.no_grad()
def test_an_absent_reference_changes_nothing_and_a_batch_is_its_samples():
    base, adapter, batch = made()
    present = torch.tensor([[True, False, False, False], [True, True, False, False], [True] * 4])
    batch = with_references(batch, present=present)
    there = present[..., None]
    other = with_references(
        batch,
        embeddings=torch.where(there, batch.references.embeddings, 9.0),
        bodies=torch.where(there[..., None, None], batch.references.bodies, 200),
    )
    for how in ("concat", "mean", "max", "attention", "self_attention"):
        base, adapter, _ = made(aggregation=how)
        a, b = (call(base, one, adapter.conditions(one)) for one in (batch, other))
        assert torch.allclose(a, b, atol=1e-5), (how, float((a - b).abs().max()))


@torch.no_grad()
def test_a_pose_is_where_it_is_in_the_picture():
    tokens = PoseTokens(64)
    keypoints = torch.rand(1, 12, 3)
    keypoints[..., 2] = 1
    half = keypoints.clone()
    half[..., :2] /= 2
    low, size = person_box(keypoints)
    low_of_half, size_of_half = person_box(half)
    assert torch.allclose(low_of_half, low / 2)
    assert torch.allclose(size_of_half, size / 2)
    assert not torch.allclose(tokens(keypoints), tokens(half), atol=1e-3), "the same pose, elsewhere"


def test_the_box_of_nobody_is_the_picture_and_of_one_joint_small():
    keypoints = torch.zeros(2, 12, 3)
    keypoints[1, 4] = torch.tensor([0.3, 0.6, 0.9])
    low, size = person_box(keypoints)
    assert low[0].tolist() == [0, 0]
    assert size[0].tolist() == [1, 1]
    assert low[1].tolist() == pytest.approx([0.3, 0.6])
    assert size[1].tolist() == pytest.approx([0.05, 0.05])


def test_soft_argmax_is_the_expected_place():
    heatmaps = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = soft_argmax(heatmaps, 7.0)
    for b in range(2):
        for j in range(3):
            weights = {(y, x): math.exp(7.0 * float(heatmaps[b, j, y, x])) for y in range(6) for x in range(5)}
            total = sum(weights.values())
            x = sum(w * (x + 0.5) / 5 for (_, x), w in weights.items()) / total
            y = sum(w * (y + 0.5) / 6 for (y, _), w in weights.items()) / total
            assert found[b, j].tolist() == pytest.approx([x, y], abs=1e-6)
    peak = torch.zeros(1, 1, 64, 48)
    peak[0, 0, 40, 12] = 1
    assert soft_argmax(peak, 1000.0)[0, 0].tolist() == pytest.approx([12.5 / 48, 40.5 / 64])


def test_the_keypoint_loss_equals_a_written_out_one():
    rng = np.random.default_rng(0)
    found, wanted = rng.uniform(size=(4, 12, 2)), rng.uniform(size=(4, 12, 3))
    wanted[0, :, 2] = 1  # a whole torso
    wanted[1, [0, 1, 6, 7], 2] = (1, 1, 1, 0.1)  # a hip is hidden: half the box
    wanted[2, :, 2] = 0  # nobody
    expected = []
    for points, person in zip(found, wanted, strict=True):
        seen = [j for j in range(12) if person[j, 2] >= 0.5]
        if not seen:
            expected.append(0.0)
            continue
        if {0, 1, 6, 7} <= set(seen):
            shoulders = [(person[0, k] + person[1, k]) / 2 for k in (0, 1)]
            hips = [(person[6, k] + person[7, k]) / 2 for k in (0, 1)]
            torso = math.dist(shoulders, hips)
        else:
            sides = [max(person[j, k] for j in seen) - min(person[j, k] for j in seen) for k in (0, 1)]
            torso = max(0.05, *sides) / 2
        torso = max(torso, 0.1)
        total = sum((points[j, 0] - person[j, 0]) ** 2 + (points[j, 1] - person[j, 1]) ** 2 for j in seen)
        expected.append(total / torso**2 / len(seen))
    ours = keypoint_loss(torch.from_numpy(found), torch.from_numpy(wanted))
    assert ours.tolist() == pytest.approx(expected, abs=1e-6)
    assert expected[2] == 0


def test_the_whole_box_is_the_picture_and_a_place_comes_back():
    images = torch.rand(1, 3, 64, 48)
    half = torch.full((1, 2), 0.5)
    assert torch.allclose(cut(images, half, half, (64, 48)), images, atol=1e-5)
    network = PoseNetwork("tiny", torch.device("cpu"))
    network.model.forward = lambda inputs: type("Out", (), {"heatmaps": _peak()})
    low, size = torch.tensor([[0.25, 0.125]]), torch.tensor([[0.5, 0.5]])
    places = network(images, low, size)
    # the box (centre .5, .375; half sizes .375 with its margin) grows to the network's 3 : 4; the peak is in its middle
    assert places[0, 0].tolist() == pytest.approx([0.5, 0.375], abs=0.01)


def _peak():
    heatmaps = torch.zeros(1, 17, 63, 47)
    heatmaps[:, :, 31, 23] = 5
    return heatmaps


def test_the_clip_loss_equals_a_written_out_one():
    score = ClipScore("tiny", torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    prompts = ["a photo of a woman in a red dress", "a man on a street"]
    mean, std = np.array((0.48145466, 0.4578275, 0.40821073)), np.array((0.26862954, 0.26130258, 0.27577711))
    ids = score._tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    expected = []
    for image, tokens in zip(images, ids, strict=True):
        pixels = ((image.numpy() + 1) / 2 - mean[:, None, None]) / std[:, None, None]
        picture = score.model.get_image_features(pixel_values=torch.from_numpy(pixels)[None].float())
        words = score.model.get_text_features(tokens[None])
        a, b = (np.asarray(getattr(f, "pooler_output", f)[0].detach(), np.float64) for f in (picture, words))
        expected.append(1 - sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(a * a) * sum(b * b)))
    assert score.loss(images, prompts).tolist() == pytest.approx(expected, abs=1e-6)


def step_of(base, batch, timesteps):
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(3))
    return step_at(base, batch, Draws(0), noise, torch.tensor(timesteps))


def test_the_losses_look_at_low_timesteps_and_at_what_was_asked_for():
    base, adapter, batch = made(**BOTH)
    terms = adapter.losses(step_of(base, batch, [10, 299, 300]))
    assert {name: term.weight for name, term in terms.items()} == {"diffusion": 1.0, "keypoints": 0.5, "clip": 0.25}
    for name in ("keypoints", "clip"):
        assert (terms[name].per_sample[:2] > 0).all()
        assert terms[name].per_sample[2] == 0
    assert all(
        not term.per_sample.any()
        for n, term in adapter.losses(step_of(base, batch, [300, 500, 999])).items()
        if n != "diffusion"
    )
    nobody = adapter.losses(step_of(base, dropped(batch, body=True, text=True), [10, 20, 30]))
    assert not nobody["keypoints"].per_sample.any()
    assert not nobody["clip"].per_sample.any()
    plain = load_adapter(BolidSettings(depth=1), load_base(BaseConfig(), clip=True, face=True))
    assert set(plain.losses(step_of(plain.base, batch, [10, 20, 30]))) == {"diffusion"}


@pytest.mark.parametrize("name", ["keypoints", "clip"])
def test_gradients_reach_the_adapter_and_no_frozen_weight(name):
    base, adapter, batch = made(**BOTH)
    adapter.losses(step_of(base, batch, [10, 100, 200]))[name].per_sample.sum().backward()
    for group in adapter.groups():
        assert any(p.grad is not None and p.grad.any() for p in group.parameters), group.name
    networks = (adapter._picture_losses.pose, adapter._picture_losses.clip)
    frozen = [*base.vae.parameters(), *base.clip.parameters(), *base.text.parameters()]
    frozen += [p for network in networks for p in network.parameters()]
    assert all(p.grad is None for p in frozen)
    own = {id(p) for p in adapter.parameters()}
    assert all(p.grad is None for p in base.unet.parameters() if id(p) not in own)
    assert not any("losses" in key for key in adapter.state_dict())


def test_the_decoded_picture_is_the_one_behind_the_noise():
    """With the true noise as the prediction, x̂0 is x0."""
    base, adapter, batch = made(**BOTH)
    step = step_of(base, batch, [10, 100, 200])
    images = adapter._picture_losses.decoded(step, step.noise, torch.arange(3))
    assert torch.allclose(images, base.vae.decode(batch.latents), atol=1e-3)
    assert functional.mse_loss(images, base.vae.decode(batch.latents)) < 1e-6


@pytest.mark.parametrize(("weight", "network"), [("keypoint_weight", "pose_network"), ("clip_weight", "clip_model")])
def test_a_loss_needs_its_network(weight, network):
    with pytest.raises(ValueError, match=f"{weight}: needs {network}"):
        BolidSettings(**{weight: 0.1})


def test_weights_of_nobody_are_refused_in_one_line():
    """There are no published ones."""
    _, adapter, _ = made()
    with pytest.raises(InputError, match=r"^adapter.weights: a.bin: bolid has no published form to begin from"):
        adapter.load_weights("a.bin")
