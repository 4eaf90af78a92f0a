"""From noise to pictures: the denoising loop that `generate` and sample grids share.

Classifier-free guidance (arXiv 2207.12598): ε = ε_without + g·(ε_with − ε_without). The identity enters from
`merge_step` on, as PhotoMaker does it. Asks no method which it is; knows nothing of files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from crawl.errors import InputError
from shards.encoders.rows import text_states
from train.adapters.adapter import Adapter, Conditions, Needs
from train.base_models import Base
from train.data.batch import Batch, Drop, Prompts
from train.step import denoise

SCHEDULERS: dict[str, Any] = {
    "euler": EulerDiscreteScheduler.from_config,
    "ddim": DDIMScheduler.from_config,
    "trailing": partial(EulerDiscreteScheduler.from_config, timestep_spacing="trailing"),
}
"""`trailing`: Euler from the schedule's last timestep, for distilled bases such as SDXL-Lightning."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn."""

    steps: int = 50
    guidance: float = 5.0
    """1: none, half the work."""
    merge_step: int = 0
    """Denoising steps before the references count; the thesis: 10 of 50."""
    scheduler: Literal["euler", "ddim", "trailing"] = "euler"
    negative: str = ""
    """What guidance leads away from instead of the empty prompt."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Factor of each condition's attention, by its name; 1 where it is not named."""


@torch.no_grad()
def sample(base: Base, adapter: Adapter, batch: Batch, how: Sampling, noise: Tensor) -> list[Image.Image]:
    """A picture for each sample of the batch, whose latents are not looked at; `noise` is standard normal [B, C, h, w].

    Raises InputError for a scale of a condition that the adapter has not.
    """
    scheduler = SCHEDULERS[how.scheduler](base.schedule.config)
    scheduler.set_timesteps(how.steps, device=base.device)
    latents = noise.to(base.device) * scheduler.init_noise_sigma
    batch = batch.to(base.device)
    with torch.autocast(base.device.type, torch.bfloat16, enabled=base.dtype == torch.bfloat16):
        merged = scaled(adapter.conditions(batch), how.scales)
        plain = scaled(adapter.conditions(batch.without(identity=True)), how.scales) if how.merge_step else merged
        nothing = adapter.conditions(unconditional(base, adapter, batch, how.negative)) if how.guidance != 1 else None
        for number, timestep in enumerate(scheduler.timesteps):
            conditions = plain if number < how.merge_step else merged
            entering = scheduler.scale_model_input(latents, timestep)
            predicted = guided(base, entering, timestep, conditions, nothing, how.guidance)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
    return pictures(base, latents)


def guided(
    base: Base, latents: Tensor, timestep: Tensor, conditions: Conditions, nothing: Conditions | None, guidance: float
) -> Tensor:
    """The UNet's output, led away from `nothing`."""
    timesteps = timestep.expand(len(latents))
    with_all = denoise(base, latents, timesteps, conditions)
    if nothing is None:
        return with_all
    without = denoise(base, latents, timesteps, nothing)
    return without + guidance * (with_all - without)


def unconditional(base: Base, adapter: Adapter, batch: Batch, negative: str) -> Batch:
    """As samples are trained whose conditions were all dropped; or a negative prompt, without a person."""
    if not negative:
        return batch.without(text=True, identity=True)
    size, yes = len(batch), torch.ones(len(batch), dtype=torch.bool, device=base.device)
    prompts = encoded(base, type(adapter).needs(adapter.settings), [negative] * size, [""] * size, [""] * size)
    return batch.replace(prompts=prompts, drop=Drop(~yes, yes, yes, yes)).to(base.device)


def encoded(
    base: Base,
    needs: Needs,
    general: Sequence[str],
    background: Sequence[str],
    body: Sequence[str],
    trigger_position: Sequence[int] | None = None,
) -> Prompts:
    """Prompts with the encoded text that an adapter needs."""
    parts = {"general": tuple(general), "background": tuple(background), "body": tuple(body)}
    states = {part: text_states(base.text, parts[part]) for part in needs.text}
    if states:
        states[""] = text_states(base.text, [""])
    return Prompts(**parts, trigger_position=tuple(trigger_position or [-1] * len(general)), states=states)


def scaled(conditions: Conditions, scales: Mapping[str, float]) -> Conditions:
    """Each stream's λ times its factor. Raises InputError for a stream that there is not."""
    for name in scales:
        if name not in conditions.streams:
            there = ", ".join(sorted(conditions.streams)) or "none: it works through the prompt"
            raise InputError(f"scale: {name}: this adapter has no such attention (it has {there})")
    streams = {
        name: dataclasses.replace(stream, scale=stream.scale * scales.get(name, 1.0))
        for name, stream in conditions.streams.items()
    }
    return dataclasses.replace(conditions, streams=streams)


def noise_of(base: Base, seeds: Sequence[int], side_px: int) -> Tensor:
    """Standard normal [B, C, h, w], a seed a picture, from the CPU's generator: the same on every machine."""
    side = side_px // base.vae.factor
    shape = (1, base.vae.channels, side, side)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def pictures(base: Base, latents: Tensor) -> list[Image.Image]:
    """Scaled latents as RGB, one at a time: decoding takes more memory than denoising."""
    decoded = torch.cat([base.vae.decode(one[None]).float() for one in latents])
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in pixels]
