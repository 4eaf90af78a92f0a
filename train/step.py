"""One step's fixed draws — noise and timesteps of a batch — and the UNet to call with them.

What an adapter's `losses` gets. A plain method asks for `diffusion()` and is done; a method with a branch of its
own (from pure noise, on decoded images) calls `predict` as often as it likes. Knows no adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from train.base_models import Base
from train.config import LossConfig
from train.data.batch import Batch
from train.data.draws import Draws

if TYPE_CHECKING:
    from train.adapters.adapter import Conditions
    from train.adapters.attention import Watch


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the loss."""

    per_sample: Tensor
    """float32 [B]; NaN is never hidden in a mean, so that the sample at fault can be named."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε for every sample of a batch."""

    base: Base
    batch: Batch
    draws: Draws
    noise: Tensor
    """[B, C, h, w]."""
    timesteps: Tensor
    """int64 [B]."""
    noisy: Tensor
    """x_t [B, C, h, w]."""
    snr_gamma: float | None = None
    """Min-SNR (arXiv 2303.09556); None weighs all timesteps alike."""

    def predict(self, conditions: Conditions, latents: Tensor | None = None, timesteps: Tensor | None = None) -> Tensor:
        """The UNet's output [B, C, h, w], float32, for x_t or for other `latents` at other `timesteps`."""
        return denoise(
            self.base,
            self.noisy if latents is None else latents,
            self.timesteps if timesteps is None else timesteps,
            conditions,
        )

    def diffusion(self, conditions: Conditions) -> Tensor:
        """Per-sample mean squared error [B] of the prediction; inside the face only where the sample's coin says so."""
        return self.error(self.predict(conditions))

    def error(self, predicted: Tensor) -> Tensor:
        """`diffusion` of an output [B, C, h, w] for x_t."""
        target = self.base.target(self.batch.latents, self.noise, self.timesteps)
        squared = functional.mse_loss(predicted, target.float(), reduction="none")
        return self.weights() * masked_mean(squared, self.batch.face_mask, self.batch.masked_loss)

    def weights(self) -> Tensor:
        """Min-SNR-γ weights [B]: min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v; ones without γ."""
        if self.snr_gamma is None:
            return torch.ones(len(self.batch), device=self.noise.device)
        alphas = self.base.schedule.alphas_cumprod.to(self.noise.device)[self.timesteps]
        snr = alphas / (1 - alphas)
        velocity = self.base.schedule.config.prediction_type == "v_prediction"
        return snr.clamp(max=self.snr_gamma) / (snr + 1 if velocity else snr)


def draw_step(base: Base, batch: Batch, draws: Draws, loss: LossConfig) -> Step:
    """The training draws of a batch on the base's device: each sample's depend on its own index only."""
    shape, at = batch.latents.shape[1:], batch.latents.device
    noise = draws.normal("noise", batch.step, batch.indices, shape)
    if loss.noise_offset:
        noise += loss.noise_offset * draws.normal("noise offset", batch.step, batch.indices, (shape[0], 1, 1))
    below = int(base.schedule.config.num_train_timesteps)
    timesteps = draws.integers("timestep", batch.step, batch.indices, below)
    return step_at(base, batch, draws, noise.to(at), timesteps.to(at), loss.min_snr_gamma)


def step_at(
    base: Base, batch: Batch, draws: Draws, noise: Tensor, timesteps: Tensor, snr_gamma: float | None = None
) -> Step:
    """A step with this noise at these timesteps."""
    noisy = base.add_noise(batch.latents, noise, timesteps)
    return Step(base, batch, draws, noise, timesteps, noisy, snr_gamma)


def denoise(
    base: Base,
    latents: Tensor,
    timesteps: Tensor,
    conditions: Conditions,
    unet: UNet2DConditionModel | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """One call of the UNet — the base's, or another of its shape — with an adapter's conditions; float32 out.

    `watch` sees the queries of its cross-attention layers.
    """
    added = {"text_embeds": conditions.pooled, "time_ids": conditions.time_ids} if base.has_time_ids else None
    asked = {"streams": conditions.streams or None, "watch": watch}
    output: Tensor = (unet or base.unet)(
        latents.to(base.dtype),
        timesteps,
        encoder_hidden_states=conditions.text.to(base.dtype),
        added_cond_kwargs=added,
        cross_attention_kwargs={name: value for name, value in asked.items() if value is not None} or None,
    ).sample
    if watch is not None:
        watch.is_open = False
    return output.float()


def masked_mean(values: Tensor, mask: Tensor, masked: Tensor) -> Tensor:
    """Mean over C, h, w [B]: inside `mask` [B, 1, h, w] where `masked` [B], over everything else where not."""
    inside = torch.where(masked[:, None, None, None], mask, torch.ones_like(mask)).expand_as(values)
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)
