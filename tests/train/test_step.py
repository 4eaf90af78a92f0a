"""A step's draws and weights, beside the formulas they come from."""

import pytest
import torch

from shards.encoders.config import BaseConfig
from train.adapters.adapter import Needs
from train.base_models import load_base
from train.config import LossConfig
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.model import build
from train.step import draw_step, masked_mean, step_at


@pytest.fixture(scope="module")
def source():
    return Synthetic(load_base(BaseConfig()), Needs(text=("general",)), Draws(3), 32)


def drawn(source, rows, loss=None):
    return draw_step(source.base, source.batch(7, rows, 8), source.draws, loss or LossConfig())


def test_a_samples_draws_depend_on_its_index_only(source):
    whole, part = drawn(source, range(8)), drawn(source, range(3, 5))
    assert torch.equal(whole.noise[3:5], part.noise)
    assert torch.equal(whole.timesteps[3:5], part.timesteps)
    assert torch.equal(whole.noisy[3:5], part.noisy)
    assert len(set(whole.timesteps.tolist())) > 4


def test_noise_is_standard_and_timesteps_cover_the_schedule(source):
    steps = [drawn(source, range(8)).noise.flatten(), source.draws.normal("noise", 8, range(200), (4, 8, 8)).flatten()]
    assert steps[1].mean().abs() < 0.02
    assert steps[1].std() == pytest.approx(1, abs=0.02)
    timesteps = source.draws.integers("timestep", 0, range(2000), 1000)
    assert timesteps.min() < 10
    assert timesteps.max() > 989
    assert timesteps.float().mean() == pytest.approx(499.5, abs=20)


def test_noise_offset_adds_a_constant_a_channel(source):
    plain, offset = drawn(source, range(4)), drawn(source, range(4), LossConfig(noise_offset=0.1))
    added = offset.noise - plain.noise
    assert torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-6)
    assert added.abs().max() > 0.01


@pytest.mark.parametrize("velocity", [False, True])
def test_min_snr_weights_are_the_papers(source, velocity):
    """min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v; SNR = ᾱ/(1 − ᾱ) (arXiv 2303.09556)."""
    base = load_base(BaseConfig())
    if velocity:
        base.schedule.register_to_config(prediction_type="v_prediction")
    batch = source.batch(0, range(4), 4)
    timesteps = torch.tensor([0, 100, 500, 999])
    weights = step_at(base, batch, source.draws, torch.zeros_like(batch.latents), timesteps, snr_gamma=5).weights()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    bar = torch.cumprod(1 - betas, 0)[timesteps]
    snr = bar / (1 - bar)
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1 if velocity else snr)
    assert weights == pytest.approx(expected.tolist(), rel=1e-3)


def test_zero_terminal_snr_ends_in_pure_noise_and_predicts_v(tiny_run):
    run = tiny_run(loss={"zero_terminal_snr": True, "min_snr_gamma": 5})
    base, _ = build(run)
    assert base.schedule.alphas_cumprod[-1] < 1e-6
    assert base.schedule.alphas_cumprod[0] == pytest.approx(1 - 0.00085, abs=1e-6)
    assert base.schedule.config.prediction_type == "v_prediction"
    assert base.schedule.config.timestep_spacing == "trailing"
    source = Synthetic(base, Needs(text=("general",)), Draws(0), 32)
    batch = source.batch(0, range(2), 2)
    noise, last = torch.randn(batch.latents.shape), torch.tensor([999, 999])
    step = step_at(base, batch, source.draws, noise, last, snr_gamma=5)
    assert torch.allclose(step.noisy, noise, atol=1e-3)
    assert torch.allclose(base.target(batch.latents, noise, last), -batch.latents, atol=1e-3)
    assert step.weights().isfinite().all()


def test_a_mask_over_the_whole_picture_is_the_plain_mean():
    values, all_of_it = torch.rand(2, 4, 8, 8), torch.ones(2, 1, 8, 8)
    masked = masked_mean(values, all_of_it, torch.tensor([True, False]))
    assert torch.allclose(masked, values.mean((1, 2, 3)))
    corner = torch.zeros(2, 1, 8, 8)
    corner[:, :, :2, :2] = 1
    inside = masked_mean(values, corner, torch.tensor([True, True]))
    assert torch.allclose(inside, values[:, :, :2, :2].mean((1, 2, 3)))
