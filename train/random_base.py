"""SDXL and SD1.5 in their real shapes with random weights: nothing is downloaded, every step costs what it costs.

For measurements; what comes out is noise. Shapes are those of the published config.json files
(stabilityai/stable-diffusion-xl-base-1.0, stable-diffusion-v1-5, openai/clip-vit-large-patch14).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from shards.encoders import tiny
from shards.encoders.config import BaseConfig
from shards.encoders.load import frozen
from shards.encoders.pictures import ClipVision, Vae
from shards.encoders.text import TextEncoders
from train.base_models import Base, load_base

_UNET: dict[str, dict[str, Any]] = {
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
    },
    "sd15": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
}
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CLIP_L: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "projection_dim": 768,
}  # fmt: skip
_CLIP_BIG_G: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
_VISION_L: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "patch_size": 14, "projection_dim": 768,
}  # fmt: skip


def random_base(family: str, device: torch.device, dtype: torch.dtype, clip: bool = False) -> Base:
    """`tiny` as ever; `sdxl` and `sd15` with random weights, made on `device` in `dtype` (the VAE in float32)."""
    if family == "tiny":
        return load_base(BaseConfig(), clip=clip)
    with _made_as(device, dtype):
        unet = UNet2DConditionModel(**_UNET[family])
        text = _text(family)
        vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**_VISION_L)) if clip else None
    with _made_as(device, torch.float32):
        vae = AutoencoderKL(**_VAE, scaling_factor=0.13025 if family == "sdxl" else 0.18215)
    return Base(
        BaseConfig.model_validate({"family": family, "weights": "random"}),
        unet=frozen(unet),
        schedule=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        text=frozen(text),
        vae=frozen(Vae(vae)),
        clip=None if vision is None else frozen(ClipVision(vision)),
    )


def _text(family: str) -> TextEncoders:
    """The real encoders behind tiny's tokenizer, whose ids are all in their vocabulary."""
    tokens = tiny.tokenizer()
    ends = {"bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id}
    models: list[torch.nn.Module] = [CLIPTextModel(CLIPTextConfig(**_CLIP_L, **ends))]
    if family == "sdxl":
        models.append(CLIPTextModelWithProjection(CLIPTextConfig(**_CLIP_BIG_G, **ends)))
    return TextEncoders([tokens] * len(models), models, penultimate=family == "sdxl")


@contextmanager
def _made_as(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)
