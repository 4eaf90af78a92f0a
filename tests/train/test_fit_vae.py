"""The tiny VAE learns to show pictures again; its latents have deviation 1."""

import pytest
import torch

from shards.encoders.config import BaseConfig
from shards.encoders.load import load_vae
from shards.encoders.pictures import signed
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.fit_vae import fit_vae


@pytest.fixture(scope="module")
def photos():
    return Synthetic(None, None, Draws(0), 32).photos(16)


def squared_error(vae, photos):
    with torch.no_grad():
        mean = vae.stats(photos).chunk(2, dim=1)[0]
        return float(
            (vae.decode(vae.latents(vae.stats(photos), torch.zeros_like(mean))) - signed(photos)).square().mean()
        )


def test_it_learns_and_its_latents_have_deviation_one(photos):
    vae = load_vae(BaseConfig())
    before = squared_error(vae, photos)
    told = fit_vae(vae, photos, 40, Draws(0))
    after = squared_error(vae, photos)
    assert after < before / 2, (before, after)
    assert told == pytest.approx(after, rel=0.3)
    stats = vae.stats(photos)
    assert vae.latents(stats, torch.zeros_like(stats[:, :4])).std() == pytest.approx(1, abs=0.01)
    assert not any(p.requires_grad for p in vae.parameters())


def test_the_same_photos_and_seed_give_the_same_vae(photos):
    first, again = load_vae(BaseConfig()), load_vae(BaseConfig())
    assert fit_vae(first, photos, 3, Draws(0)) == fit_vae(again, photos, 3, Draws(0))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
