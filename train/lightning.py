"""The Lightning branch: a few Euler steps from pure noise to a picture, of which the last ones pass gradients.

SDXL-Lightning (arXiv 2402.13929): trailing timesteps, no guidance. With a plain path beside the one that has an
identity, both from the same noise. Euler's steps in σ are written as DDIM's in ᾱ, which are the same steps and stay
finite where ᾱ = 0 (zero terminal SNR). Knows no adapter and no loss: what compares the paths is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from train.adapters.adapter import Conditions
from train.adapters.attention import Watch
from train.base_models import Base
from train.step import denoise

Compare = Callable[[Watch, Watch], None]
"""Is shown, at every step, the queries of the path with identity and those of the plain one."""


@dataclass(frozen=True, slots=True)
class Trailing:
    """Timesteps, the first of pure noise, and their ᾱ, with a last 1."""

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]

    @property
    def sigmas(self) -> tuple[float, ...]:
        """√((1 − ᾱ)/ᾱ), the last 0."""
        return tuple(((1 - alpha) / alpha) ** 0.5 if alpha else inf for alpha in self.alphas)


def trailing(schedule: DDPMScheduler, steps: int) -> Trailing:
    """For 4 steps of SDXL's schedule: 999, 749, 499, 249; σ 14.6146, 4.0817, 1.6129, 0.6932, 0."""
    total = int(schedule.config.num_train_timesteps)
    timesteps = [round(total - number * total / steps) - 1 for number in range(steps)]
    return Trailing(tuple(timesteps), (*schedule.alphas_cumprod.double()[timesteps].tolist(), 1.0))


@dataclass(frozen=True, eq=False)
class Lightning:
    """Draws latents x_0 with a base, by its own UNet or a distilled one of the same shape."""

    base: Base
    unet: UNet2DConditionModel
    steps: int = 4
    backprop_steps: int = 4
    """The last so many pass gradients; latents that come from earlier ones count as given."""
    checkpointing: bool = False
    """Compute each call of the UNet again when gradients pass, instead of keeping it."""

    def follow(self, unet: UNet2DConditionModel) -> None:
        """Checkpoint within the distilled UNet where `unet`, the base's, does."""
        if unet.is_gradient_checkpointing and not self.unet.is_gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()

    def draw(
        self,
        noise: Tensor,
        conditions: Conditions,
        plain: Conditions | None = None,
        compare: Compare | None = None,
    ) -> Tensor:
        """Scaled latents x_0 [B, C, h, w] from standard normal `noise`; `plain` runs beside it without gradients."""
        schedule = trailing(self.base.schedule, self.steps)
        latents = beside = noise * (1 - schedule.alphas[0]) ** 0.5
        for number, (timestep, alpha, until) in enumerate(
            zip(schedule.timesteps, schedule.alphas, schedule.alphas[1:], strict=False)
        ):
            graded = torch.is_grad_enabled() and number >= self.steps - self.backprop_steps
            with torch.set_grad_enabled(graded):
                output, seen = self._call(latents, timestep, conditions, plain is not None)
                latents = self._euler(latents, output, alpha, until)
            if plain is not None:
                with torch.no_grad():
                    output, plainly = self._call(beside, timestep, plain, True)
                    beside = self._euler(beside, output, alpha, until)
                if compare is not None:
                    with torch.set_grad_enabled(graded):
                        compare(seen, plainly)
        return latents

    def _call(self, latents: Tensor, timestep: int, conditions: Conditions, watched: bool) -> tuple[Tensor, Watch]:
        """The UNet's output for x_t, and what was seen of its queries."""
        timesteps = torch.full((len(latents),), timestep, device=latents.device)

        def call(entering: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
            watch = Watch() if watched else None
            output = denoise(self.base, entering, timesteps, conditions, self.unet, watch)
            return (output, watch.keys, watch.queries) if watch else (output, [], [])

        if self.checkpointing and torch.is_grad_enabled():
            output, keys, queries = checkpoint(call, latents, use_reentrant=False)
        else:
            output, keys, queries = call(latents)
        return output, Watch(keys, queries, is_open=False)

    def _euler(self, latents: Tensor, output: Tensor, alpha: float, until: float) -> Tensor:
        """√ᾱ′·x̂_0 + √(1 − ᾱ′)·ε̂ (arXiv 2010.02502 eq. 12, η = 0), of a prediction of ε or of v."""
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        if self.base.schedule.config.prediction_type == "v_prediction":
            clean, rest = signal * latents - noise * output, noise * latents + signal * output
        else:
            clean, rest = (latents - noise * output) / signal, output
        return until**0.5 * clean + (1 - until) ** 0.5 * rest
