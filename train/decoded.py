"""From latents to a picture that gradients pass through: x̂_0 of a prediction, and the VAE's decoder.

For losses that look at pictures. Knows no adapter and no loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from train.base_models import Base


def clean(base: Base, noisy: Tensor, output: Tensor, timesteps: Tensor) -> Tensor:
    """x̂_0 [B, C, h, w] that the UNet's `output` for x_t at `timesteps` [B] stands for (ε or v)."""
    alpha = base.schedule.alphas_cumprod.to(noisy.device)[timesteps].view(-1, 1, 1, 1).to(noisy.dtype)
    if base.schedule.config.prediction_type == "v_prediction":
        return alpha.sqrt() * noisy - (1 - alpha).sqrt() * output
    return (noisy - (1 - alpha).sqrt() * output) / alpha.sqrt()


def decoded(base: Base, latents: Tensor, checkpointing: bool = False) -> Tensor:
    """Scaled latents → images float32 [B, 3, H, W] in about [−1, 1], one at a time.

    `checkpointing`: the decoder's activations are computed again when gradients pass, instead of kept.
    """
    decode = base.vae.decode
    rows = [
        checkpoint(decode, row, use_reentrant=False) if checkpointing else decode(row) for row in latents.split(1)
    ]  # fmt: skip
    return torch.cat(rows).float()
