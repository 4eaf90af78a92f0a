"""`tiny`'s VAE is random: fitted to the training photos beforehand, its latents are pictures again. Then frozen.

Deterministic from the run's draws. Knows nothing of adapters and of the UNet.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from shards.encoders.load import frozen
from shards.encoders.pictures import Vae, signed
from train.data.draws import Draws

PHOTOS = 256
"""Most photos it is fitted to."""
_BATCH = 8
_LR = 2e-3
_KL = 1e-4
"""Weight of the Kullback-Leibler term: latents of bounded size, little noise."""


def fit_vae(vae: Vae, photos: Tensor, steps: int, draws: Draws) -> float:
    """Fit in place to `photos` uint8 [N, 3, S, S]; the scaling factor becomes 1 / deviation of the latents.

    Returns the mean squared error of the reconstruction, pixels in [−1, 1].
    """
    model = vae.model.requires_grad_(True)
    adam = torch.optim.Adam(model.parameters(), _LR, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        rows = draws.integers("vae photo", step, range(_BATCH), len(photos)).to(photos.device)
        loss, _ = _loss(vae, photos[rows], draws, step)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        schedule.step()
    frozen(vae)
    return _scale(vae, photos, draws)


def _loss(vae: Vae, photos: Tensor, draws: Draws, step: int) -> tuple[Tensor, Tensor]:
    """Absolute error of the reconstruction and KL; the squared error beside it."""
    mean, std = vae.stats(photos).chunk(2, dim=1)
    noise = draws.normal("vae noise", step, range(len(photos)), mean.shape[1:]).to(mean.device)
    decoded = vae.model.decode(mean + std * noise).sample
    kl = (mean.square() + std.square() - 1 - 2 * std.log()).mean() / 2
    return functional.l1_loss(decoded, signed(photos)) + _KL * kl, functional.mse_loss(decoded, signed(photos))


@torch.no_grad()
def _scale(vae: Vae, photos: Tensor, draws: Draws) -> float:
    """The scaling factor that makes latents of deviation 1; the mean squared error of what is decoded."""
    pieces = photos.split(_BATCH)
    means = torch.cat([vae.stats(piece).chunk(2, dim=1)[0] for piece in pieces])
    vae.model.register_to_config(scaling_factor=1 / float(means.std()))
    return sum(float(_loss(vae, piece, draws, -1)[1]) * len(piece) for piece in pieces) / len(photos)
