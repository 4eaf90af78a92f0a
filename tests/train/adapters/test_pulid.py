"""PuLID on the tiny base: who learns from which loss, what a dropped sample sees, exactly nothing at scale 0."""

import dataclasses

import numpy as np
import pytest
import torch

from crawl.errors import InputError
from train.adapters import load_adapter
from train.adapters.alignment import alignment
from train.adapters.attention import Watch
from train.adapters.settings import NoAdapterSettings, PulidSettings
from train.config import LossConfig
from train.data.batch import Drop
from train.data.draws import Draws
from train.generate import _set_mode
from train.lightning import Lightning, trailing
from train.sampling import Sampling, noise_of, pictures, sample, scaled
from train.step import denoise, draw_step

TRIAL = {"recogniser": "random", "faces": "centre", "backprop_steps": 2}


def settings(lightning=None, **changes):
    return PulidSettings(lightning={**TRIAL, **(lightning or {})}, **changes)


def step_of(base, batch):
    return draw_step(base, batch, Draws(0), LossConfig())


def reached(adapter, loss):
    """Names of the parts that a loss' gradient reaches; no frozen weight may have one."""
    adapter.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    base = adapter.base
    own = {id(p) for p in adapter.parameters()}
    frozen = [p for m in (base.unet, base.vae, base.text, base.clip) for p in m.parameters() if id(p) not in own]
    assert all(p.grad is None for p in frozen)
    named = dict(adapter.named_parameters())
    return {name.split(".")[0] for name, p in named.items() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize("version", ["v1", "v1.1"])
def test_every_loss_reaches_encoder_and_attention_and_nothing_that_is_frozen(made, photo_batch, version):
    lightning = {
        "id_weight": 1,
        "semantic_weight": 0.6,
        "layout_weight": 0.1,
        "gradient_checkpointing": version == "v1",
    }
    base, adapter = made(settings(lightning, version=version))
    terms = adapter.losses(step_of(base, photo_batch(base)))
    assert {name: term.weight for name, term in terms.items()} == {
        "diffusion": 1, "semantic": 0.6, "layout": 0.1, "id": 1, "faces": 0,
    }  # fmt: skip
    assert all(term.per_sample.shape == (3,) for term in terms.values())
    for name in ("diffusion", "semantic", "layout", "id"):
        assert reached(adapter, terms[name].per_sample.sum()) == {"id_adapter", "id_adapter_attn_layers"}, name
        assert terms[name].per_sample.min() > 0
    assert terms["faces"].per_sample.tolist() == [1, 1, 1]
    recogniser = adapter.branch._id_loss.recogniser
    assert all(p.grad is None for p in recogniser.parameters())
    assert not any(name.startswith("_branch") for name in adapter.state_dict())


def test_only_what_is_weighted_is_run(made, photo_batch):
    base, adapter = made(settings({}))
    assert adapter.losses(step_of(base, photo_batch(base))).keys() == {"diffusion"}
    assert not adapter.needs(adapter.settings).pixels
    _, adapter = made(settings({"id_weight": 1}))
    assert adapter.losses(step_of(adapter.base, photo_batch(adapter.base))).keys() == {"diffusion", "id", "faces"}
    assert adapter.needs(adapter.settings).pixels
    listed = {"layout_weight": 1, "prompts": ["a tree", "a person in a suit"]}
    _, adapter = made(settings(listed))
    assert adapter.losses(step_of(adapter.base, photo_batch(adapter.base))).keys() == {"diffusion", "layout"}


@torch.no_grad()
@pytest.mark.parametrize(("mode", "prompts"), [("plain", []), ("fidelity", ["a tree", "a man"]), ("style", [])])
def test_at_scale_zero_alignment_is_exactly_nothing(made, photo_batch, mode, prompts):
    lightning = {"semantic_weight": 1, "layout_weight": 1, "prompts": prompts}
    for scale, least in ((0.0, 0.0), (1.0, 1e-5)):
        base, adapter = made(settings(lightning, scale=scale, mode=mode))
        terms = adapter.losses(step_of(base, photo_batch(base)))
        for name in ("semantic", "layout"):
            values = terms[name].per_sample
            assert torch.equal(values, torch.zeros(3)) if scale == 0 else values.min() > least


@torch.no_grad()
def test_alignment_is_the_mean_over_steps_of_both_paths_from_the_same_noise(made, photo_batch):
    base, adapter = made(settings({"semantic_weight": 1, "layout_weight": 1}))
    batch = photo_batch(base)
    step = step_of(base, batch)
    terms = adapter.losses(step)
    text = base.text.encode(["portrait, color, cinematic"] * 3)
    time_ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 3)
    merged = adapter.conditions_of(batch, text, time_ids)
    plain = dataclasses.replace(merged, streams={})
    schedule = trailing(base.schedule, 4)
    latents = [Draws(0).normal("lightning noise", 0, (0, 1, 2), (4, 8, 8)) * schedule.sigmas[0]] * 2
    losses = []
    for timestep, sigma, until in zip(schedule.timesteps, schedule.sigmas, schedule.sigmas[1:], strict=False):
        watches = [Watch(), Watch()]
        for path, conditions in enumerate((merged, plain)):
            entering = latents[path] / (sigma**2 + 1) ** 0.5
            output = denoise(base, entering, torch.full((3,), timestep), conditions, watch=watches[path])
            latents[path] = latents[path] + (until - sigma) * output
        losses.append(torch.stack(alignment(*watches)))
    expected = torch.stack(losses).mean(0)
    assert (torch.stack([terms["semantic"].per_sample, terms["layout"].per_sample]) - expected).abs().max() < 1e-6


@torch.no_grad()
def test_branches_look_at_the_references_whatever_was_dropped_and_draw_by_the_sample(made, photo_batch, one_of):
    base, adapter = made(settings({"id_weight": 1, "layout_weight": 1, "prompts": ["a tree", "a man", "red"]}))
    batch = photo_batch(base)
    terms = adapter.losses(step_of(base, batch))
    yes = torch.ones(3, dtype=torch.bool)
    dropped = adapter.losses(step_of(base, batch.replace(drop=Drop(yes, yes, yes, yes))))
    alone = adapter.losses(step_of(base, one_of(batch, 2)))
    for name in ("id", "layout"):
        assert torch.equal(terms[name].per_sample, dropped[name].per_sample)
        assert abs(terms[name].per_sample[2] - alone[name].per_sample[0]) < 1e-5
    assert not torch.equal(terms["diffusion"].per_sample, dropped["diffusion"].per_sample)


@torch.no_grad()
def test_dropped_and_missing_references_are_one_reference_of_zeros(made, photo_batch):
    base, adapter = made(settings())
    batch = photo_batch(base)
    no = torch.zeros(3, dtype=torch.bool)
    drop = Drop(no, torch.tensor([True, False, False]), no, no)
    stream = adapter.conditions(batch.replace(drop=drop)).streams["identity"]
    zeros = adapter.id_adapter(torch.zeros(1, base.face.width + 32), torch.zeros(1, 5, 17, 32))[0]
    assert stream.mask.view(3, 3, 32).all(-1).tolist() == [
        [True, False, False],
        [True, False, False],
        [True, True, False],
    ]
    assert torch.allclose(stream.tokens[0, :32], zeros, atol=1e-6)
    assert not torch.allclose(stream.tokens[1, :32], zeros, atol=1e-3)
    adapter.settings = adapter.settings.model_copy(update={"max_references": 2})
    with pytest.raises(InputError, match=r"^adapter.max_references: 2, but a sample has 3 references$"):
        adapter.conditions(batch)


@torch.no_grad()
@pytest.mark.parametrize("version", ["v1", "v1.1"])
def test_a_sample_is_what_it_is_alone(made, photo_batch, one_of, version):
    base, adapter = made(settings(version=version, mode="fidelity"))
    batch = photo_batch(base)
    step = step_of(base, batch)
    together = step.predict(adapter.conditions(batch))
    for row in range(3):
        single = one_of(batch, row)
        alone = denoise(base, step.noisy[row : row + 1], step.timesteps[row : row + 1], adapter.conditions(single))
        assert (together[row] - alone[0]).abs().max() < 1e-5


@torch.no_grad()
def test_pictures_differ_by_mode_and_are_the_bases_at_scale_zero(made, photo_batch):
    base, adapter = made(settings())
    batch, noise, how = photo_batch(base), noise_of(base, [1, 2, 3], 32), Sampling(4, 1.2, scheduler="trailing")
    drawn = {}
    for mode in ("plain", "fidelity", "style"):
        adapter.settings = adapter.settings.model_copy(update={"mode": mode})
        drawn[mode] = [image.tobytes() for image in sample(base, adapter, batch, how, noise)]
        nothing = scaled(adapter.conditions(batch), {"identity": 0.0})
        plain = dataclasses.replace(nothing, streams={})
        latents, timesteps = batch.latents, torch.tensor([5, 300, 900])
        assert torch.equal(denoise(base, latents, timesteps, nothing), denoise(base, latents, timesteps, plain))
    assert len(set(map(tuple, drawn.values()))) == 3


@torch.no_grad()
def test_generating_by_trailing_steps_draws_what_the_branch_draws(made, photo_batch):
    base, adapter = made(settings(version="v1"))
    batch, noise = photo_batch(base), noise_of(base, [1, 2, 3], 32)
    expected = pictures(base, Lightning(base, base.unet).draw(noise, adapter.conditions(batch)))
    found = sample(base, adapter, batch, Sampling(4, 1.0, scheduler="trailing"), noise)
    for one, other in zip(expected, found, strict=True):
        assert np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max() <= 1


def test_a_mode_is_for_pulid_alone(made):
    _, adapter = made(settings())
    _set_mode(adapter, "style")
    assert adapter.settings.mode == "style"
    _, other = made(NoAdapterSettings())
    with pytest.raises(InputError, match=r"^--mode: style: none has no modes$"):
        _set_mode(other, "style")


@torch.no_grad()
def test_a_base_in_bfloat16_says_about_the_same(made, photo_batch):
    lightning = {"id_weight": 1, "semantic_weight": 1, "layout_weight": 1}
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        base, adapter = made(settings(lightning), dtype)
        batch = photo_batch(made(settings())[0])
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            terms = adapter.losses(step_of(base, batch))
        found.append(torch.stack([term.per_sample for term in terms.values()]))
    assert (found[0] - found[1]).abs().max() < 0.1 * found[0].abs().max()


def test_the_seed_decides_how_it_begins(made):
    base, adapter = made(settings())
    other = load_adapter(settings(seed=1), made(settings())[0])
    same = load_adapter(settings(), made(settings())[0])
    first = adapter.id_adapter.latents
    assert torch.equal(first, same.id_adapter.latents)
    assert not torch.equal(first, other.id_adapter.latents)
    for index, name in base.cross_layers().items():
        attention = base.unet.get_submodule(name.removesuffix(".processor"))
        layer = adapter.id_adapter_attn_layers[str(index)]
        assert torch.equal(layer.id_to_k.weight, attention.to_k.weight)
        assert torch.equal(layer.id_to_v.weight, attention.to_v.weight)
