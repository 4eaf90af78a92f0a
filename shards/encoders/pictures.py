"""Pictures as the UNet and the adapters see them: VAE latents, CLIP states, face embeddings.

Pictures come as uint8 [B, 3, H, W], RGB. Knows nothing of datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from filter.faces import Face, FaceEmbedder, Image, Point

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Vae(nn.Module):
    """A frozen, differentiable AutoencoderKL with its scaling."""

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        self.model = model

    @property
    def factor(self) -> int:
        """Pixels per latent, a side."""
        return int(2 ** (len(self.model.config.block_out_channels) - 1))

    @property
    def channels(self) -> int:
        return int(self.model.config.latent_channels)

    def stats(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] → [B, 2·C, h, w]: mean and standard deviation of the posterior, unscaled."""
        distribution = self.model.encode(signed(images).to(self.model.dtype)).latent_dist
        return torch.cat([distribution.mean, distribution.std], dim=1)

    def mean(self, images: Tensor) -> Tensor:
        """Images in [−1, 1] [B, 3, H, W] → the posterior's mean, scaled: [B, C, h, w]."""
        mean: Tensor = self.model.encode(images.to(self.model.dtype)).latent_dist.mean
        return mean * self.model.config.scaling_factor

    def latents(self, stats: Tensor, noise: Tensor) -> Tensor:
        """A scaled draw [B, C, h, w] from `stats` by standard normal `noise` of that shape."""
        mean, std = stats.chunk(2, dim=1)
        return (mean + std * noise) * self.model.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents → images [B, 3, H, W] in about [−1, 1]; differentiable."""
        image: Tensor = self.model.decode((latents / self.model.config.scaling_factor).to(self.model.dtype)).sample
        return image


ClipState = Literal["last", "penultimate", "pooled", "scales"]
SCALES = 5
"""Depths of the tower that `scales` looks at: after 1/6 … 5/6 of its blocks (4, 8, 12, 16, 20 of 24)."""


@dataclass(frozen=True, slots=True)
class ClipStates:
    """What a CLIP vision tower says of a picture; T tokens of width D, the class token first."""

    last: Tensor
    """[B, T, D], before the final norm."""
    penultimate: Tensor
    """[B, T, D]: `hidden_states[-2]`."""
    pooled: Tensor
    """[B, P]: after norm and projection (`image_embeds`)."""
    scales: Tensor
    """[B, 5, T, D]: hidden states at five depths."""

    @property
    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.last, self.penultimate, self.pooled, self.scales


class ClipVision(nn.Module):
    """A CLIP vision tower with its preprocessing."""

    def __init__(self, model: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.model = model

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def pooled_width(self) -> int:
        return int(self.model.config.projection_dim)

    def forward(self, images: Tensor) -> ClipStates:
        """uint8 [B, 3, H, W] of any size: resized to the tower's square, normalised by CLIP's mean and deviation."""
        return self.states(clip_pixels(images, int(self.model.config.image_size)).to(self.model.dtype))

    def states(self, pixels: Tensor) -> ClipStates:
        out = self.model(pixels, output_hidden_states=True)
        hidden = out.hidden_states  # the embeddings, then what each block says
        scales = [hidden[round(number * (len(hidden) - 1) / (SCALES + 1))] for number in range(1, SCALES + 1)]
        return ClipStates(hidden[-1], hidden[-2], out.image_embeds, torch.stack(scales, dim=1))


class FaceEncoder:
    """A face embedder of `filter.models` on crops whose landmarks are known."""

    def __init__(self, embedder: FaceEmbedder, version: str = "") -> None:
        self._embedder = embedder
        self.version = version
        """Name and content of its weight files."""

    @property
    def width(self) -> int:
        return int(self._embedder.dimensions)

    def embed(self, image: Image, landmarks_px: Sequence[Point]) -> Tensor:
        """H × W × 3 uint8 and its five landmarks → unit vector [D], float32."""
        xs, ys = zip(*landmarks_px, strict=True)
        face = Face((min(xs), min(ys), max(xs), max(ys)), tuple(landmarks_px), 1.0)
        return torch.from_numpy(np.asarray(self._embedder.embed(image, [face])[0], np.float32))


def signed(images: Tensor) -> Tensor:
    """uint8 → float in [−1, 1]."""
    return images.float() / 127.5 - 1


def clip_pixels(images: Tensor, side_px: int) -> Tensor:
    """uint8 [B, 3, H, W] → normalised float [B, 3, side, side]; bicubic with antialiasing, as CLIP's processor."""
    resized = functional.interpolate(
        images.float() / 255, (side_px, side_px), mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)
    mean = torch.tensor(CLIP_MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD, device=images.device).view(1, 3, 1, 1)
    return (resized - mean) / std
