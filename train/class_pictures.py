"""Pictures that the base itself makes of a prompt, as latents: what DreamBooth's prior preservation holds on to.

The same on every machine and every run. Knows no adapter.
"""

from __future__ import annotations

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from train.adapters.adapter import Conditions
from train.base_models import Base
from train.sampling import guided, noise_of

AT_ONCE = 4


@torch.no_grad()
def class_latents(base: Base, prompt: str, count: int, steps: int, guidance: float, side_px: int, seed: int) -> Tensor:
    """Scaled latents [count, C, h, w] of pictures `side_px` a side; seeds count up from `seed`."""
    found = []
    for at in range(0, count, AT_ONCE):
        seeds = range(seed + at, seed + min(at + AT_ONCE, count))
        scheduler = EulerDiscreteScheduler.from_config(base.schedule.config)
        scheduler.set_timesteps(steps, device=base.device)
        latents = noise_of(base, seeds, side_px).to(base.device) * scheduler.init_noise_sigma
        asked, nothing = (_conditions(base, text, len(seeds), side_px) for text in (prompt, ""))
        for timestep in scheduler.timesteps:
            entering = scheduler.scale_model_input(latents, timestep)
            predicted = guided(base, entering, timestep, asked, nothing if guidance != 1 else None, guidance)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
        found.append(latents.float())
    return torch.cat(found)


def _conditions(base: Base, prompt: str, count: int, side_px: int) -> Conditions:
    states = base.text.encode([prompt] * count)
    size = float(side_px)
    time_ids = torch.tensor([[size, size, 0, 0, size, size]] * count, device=base.device)
    return Conditions(states.hidden, states.pooled, time_ids if base.has_time_ids else None)
