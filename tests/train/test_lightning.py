"""The Lightning branch: its schedule's table, diffusers' own Euler loop, and gradients through the last steps only."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from shards.encoders.config import BaseConfig
from train.adapters.adapter import Conditions, Stream
from train.adapters.attention import install_streams
from train.base_models import load_base
from train.lightning import Lightning, trailing
from train.step import denoise


@pytest.fixture
def base():
    return load_base(BaseConfig())


def noise(seed=0):
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def conditions_of(base, tokens=None):
    states = base.text.encode(["a photo of a woman", "a man in red"])
    streams = {} if tokens is None else {"identity": Stream(tokens)}
    return Conditions(states.hidden, states.pooled, torch.zeros(2, 6), streams)


def with_tokens(base):
    install_streams(base, ["identity"])
    return torch.randn(2, 3, base.context_width, generator=torch.Generator().manual_seed(1), requires_grad=True)


def test_the_schedule_is_the_one_of_the_design(base):
    schedule = trailing(base.schedule, 4)
    assert schedule.timesteps == (999, 749, 499, 249)
    assert schedule.sigmas == pytest.approx((14.6146, 4.0817, 1.6129, 0.6932, 0), abs=5e-5)


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_it_draws_what_diffusers_draws(base, prediction, steps):
    base.schedule = DDPMScheduler.from_config(base.schedule.config, prediction_type=prediction)
    install_streams(base, [])
    theirs = EulerDiscreteScheduler.from_config(base.schedule.config, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    conditions, latents = conditions_of(base), noise() * theirs.init_noise_sigma
    for timestep in theirs.timesteps:
        output = denoise(base, theirs.scale_model_input(latents, timestep), timestep.expand(2), conditions)
        latents = theirs.step(output, timestep, latents).prev_sample
    ours = Lightning(base, base.unet, steps).draw(noise(), conditions)
    assert (ours - latents).abs().max() < 1e-5 * latents.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 4])
def test_it_draws_from_noise_alone_as_diffusers_does(base, steps):
    """With zero terminal SNR the first σ is infinite: DDIM's steps are Euler's, and finite."""
    zero = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    base.schedule = DDPMScheduler.from_config(base.schedule.config, **zero)
    assert trailing(base.schedule, steps).sigmas[0] > 4000
    install_streams(base, [])
    theirs = DDIMScheduler.from_config(base.schedule.config, clip_sample=False, set_alpha_to_one=True)
    theirs.set_timesteps(steps)
    conditions, latents = conditions_of(base), noise()
    for timestep in theirs.timesteps:
        output = denoise(base, latents, timestep.expand(2), conditions)
        latents = theirs.step(output, timestep, latents).prev_sample
    ours = Lightning(base, base.unet, steps).draw(noise(), conditions)
    assert (ours - latents).abs().max() < 1e-5 * latents.abs().max()


@pytest.mark.parametrize("last", [1, 2, 4])
def test_gradients_are_those_of_the_last_steps_alone(base, last):
    tokens = with_tokens(base)
    conditions, schedule = conditions_of(base, tokens), trailing(base.schedule, 4)
    latents = noise() * schedule.sigmas[0]
    for number, timestep in enumerate(schedule.timesteps):
        if number == 4 - last:
            latents = latents.detach()
        sigma, until = schedule.sigmas[number : number + 2]
        output = denoise(base, latents / (sigma**2 + 1) ** 0.5, torch.full((2,), timestep), conditions)
        latents = latents + (until - sigma) * output
    (expected,) = torch.autograd.grad(latents.square().sum(), tokens)
    for checkpointing in (False, True):
        drawn = Lightning(base, base.unet, 4, last, checkpointing).draw(noise(), conditions_of(base, tokens))
        assert (drawn - latents).abs().max() < 1e-5 * latents.abs().max()
        (found,) = torch.autograd.grad(drawn.square().sum(), tokens)
        assert expected.abs().max() > 0
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_plain_path_passes_no_gradient_and_every_step_is_compared(base):
    tokens, seen = with_tokens(base), []
    lightning = Lightning(base, base.unet, 4, 2)
    plain = conditions_of(base)
    lightning.draw(noise(), conditions_of(base, tokens), plain, lambda one, other: seen.append((one, other)))
    layers = len(base.cross_layers())
    assert [len(watch.queries) for pair in seen for watch in pair] == [layers] * 8
    assert [any(q.requires_grad for q in one.queries) for one, _ in seen] == [False, False, True, True]
    assert not any(q.requires_grad for _, other in seen for q in other.queries)
    alone = []
    Lightning(base, base.unet, 4, 2).draw(noise(), plain, plain, lambda one, other: alone.append((one, other)))
    for (_, other), (one, _) in zip(seen, alone, strict=True):  # the plain path is not led astray by the other
        assert all(torch.equal(a, b) for a, b in zip(other.queries, one.queries, strict=True))
