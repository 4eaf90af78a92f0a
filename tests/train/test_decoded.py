"""x̂_0 undoes the noise of a right prediction; decoding passes gradients, kept or computed again."""

import pytest
import torch
from diffusers import DDPMScheduler

from shards.encoders.config import BaseConfig
from train.base_models import load_base
from train.decoded import clean, decoded


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_right_prediction_gives_back_what_was_noised(prediction):
    base = load_base(BaseConfig())
    base.schedule = DDPMScheduler.from_config(base.schedule.config, prediction_type=prediction)
    latents, noise, timesteps = (
        draw(3, 4, 8, 8).double(),
        draw(3, 4, 8, 8, seed=1).double(),
        torch.tensor([0, 300, 999]),
    )
    noisy = base.add_noise(latents, noise, timesteps)
    found = clean(base, noisy, base.target(latents, noise, timesteps), timesteps)
    assert (found - latents).abs().max() < 1e-5


def test_pictures_are_the_vaes_and_gradients_are_the_same_when_computed_again():
    base = load_base(BaseConfig())
    latents = draw(2, 4, 8, 8).requires_grad_()
    gradients = []
    for checkpointing in (False, True):
        images = decoded(base, latents, checkpointing)
        assert (images - base.vae.decode(latents)).abs().max() < 1e-5
        gradients.append(torch.autograd.grad(images.square().sum(), latents)[0])
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, atol=1e-5)
