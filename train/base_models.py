"""The diffusion base: UNet, its encoders, its noise schedule. Loaded through diffusers, or `tiny`.

Knows nothing of adapters: they install themselves into `Base.unet`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from shards.encoders import tiny
from shards.encoders.config import BaseConfig, Family
from shards.encoders.load import frozen, load_clip, load_face, load_text, load_vae, part
from shards.encoders.pictures import ClipVision, FaceEncoder, Vae
from shards.encoders.text import TextEncoders


@dataclass(eq=False)
class Base:
    """A base model. Everything is frozen unless the run trains the UNet (`tiny` from scratch)."""

    config: BaseConfig
    unet: UNet2DConditionModel
    schedule: DDPMScheduler
    text: TextEncoders
    vae: Vae
    clip: ClipVision | None = None
    face: FaceEncoder | None = None
    begin: Callable[[], Base] | None = None
    """Makes this base once more, as a run begins with it; None: as `config` says."""

    def untrained(self) -> Base:
        """This base as it was before the first step, after a stop too."""
        return load_base(self.config) if self.begin is None else self.begin()

    @property
    def family(self) -> Family:
        return self.config.family

    @property
    def has_time_ids(self) -> bool:
        """SDXL's micro-conditioning and pooled text."""
        return bool(self.unet.config.addition_embed_type == "text_time")

    @property
    def context_width(self) -> int:
        """C of `encoder_hidden_states`: 2048 (SDXL), 768 (SD1.5), 64 (tiny)."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device  # diffusers' own property walks all modules

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def processor_names(self) -> list[str]:
        """Names of all attention processors; the place in this list is the index in every published format."""
        return list(self.unet.attn_processors)

    def cross_layers(self) -> dict[int, str]:
        """Index → name of the cross-attention processors: 1, 3, …, the mid block's last."""
        return {i: name for i, name in enumerate(self.processor_names()) if name.endswith("attn2.processor")}

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t [B, C, h, w] at `timesteps` [B] (DDPM, arXiv 2006.11239 eq. 4)."""
        noisy: Tensor = self.schedule.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet is to predict: the noise, or v (arXiv 2202.00512) where the schedule says so."""
        if self.schedule.config.prediction_type == "v_prediction":
            velocity: Tensor = self.schedule.get_velocity(latents, noise, timesteps)
            return velocity
        return noise


def load_base(config: BaseConfig, clip: bool = False, face: bool = False) -> Base:
    """`clip`, `face`: whether the adapter looks at references through them. Raises InputError."""
    return Base(
        config,
        unet=frozen(tiny_unet(config.seed) if config.family == "tiny" else part(config, UNet2DConditionModel, "unet")),
        schedule=DDPMScheduler(**_TINY_SCHEDULE)
        if config.family == "tiny"
        else part(config, DDPMScheduler, "scheduler"),
        text=load_text(config),
        vae=load_vae(config),
        clip=load_clip(config) if clip else None,
        face=load_face(config) if face else None,
    )


_TINY_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
"""SDXL's."""


def tiny_unet(seed: int) -> UNet2DConditionModel:
    """SDXL's UNet with two levels of 32 and 64 channels: 24 attention processors, context 64, time ids."""
    with tiny.seeded(seed + 4):
        return UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 64),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            cross_attention_dim=tiny.CONTEXT_WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + tiny.POOLED_WIDTH,
            use_linear_projection=True,
        ).eval()
