"""Fixtures of the trainer's tests: a UNet of SDXL's real size that takes no memory."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from shards.encoders.config import BaseConfig
from train.base_models import Base

SDXL = {
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
}


@pytest.fixture
def sdxl_base():
    """SDXL's shapes on the meta device: for names and parameter counts, nothing can be computed."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL).requires_grad_(False)
    config = BaseConfig(family="sdxl", weights="none")
    return Base(config, unet=unet, schedule=None, text=None, vae=None)
