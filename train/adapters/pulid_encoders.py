"""PuLID's identity encoders: a face vector and five depths of a vision tower become tokens. Knows no UNet, no file.

v1 `IdEncoder`: 5 tokens of the vector, one of each depth. v1.1 `IdFormer`: 32 queries that look at both, two layers a
depth. Parameters are named as in the published files. Source: ToTheBeginning/PuLID (shapes, names).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from shards.encoders.pictures import SCALES
from train.adapters.resampler import PerceiverAttention, feed_forward

ID_TOKENS = 5
"""Tokens of the face vector."""
QUERIES = 32
DEPTH = 10
_HIDDEN = 1024
_HEAD_DIM = 64


def mlp(width: int, first: int, second: int, out: int) -> nn.Sequential:
    """Linear → LayerNorm → LeakyReLU, twice, → Linear."""
    return nn.Sequential(
        nn.Linear(width, first), nn.LayerNorm(first), nn.LeakyReLU(),
        nn.Linear(first, second), nn.LayerNorm(second), nn.LeakyReLU(),
        nn.Linear(second, out),
    )  # fmt: skip


class IdEncoder(nn.Module):
    """v1: 10 tokens. `width`: of the face vector; `clip_width`: of the tower (1280 and 1024 as published)."""

    tokens = ID_TOKENS + SCALES

    def __init__(self, width: int, clip_width: int, context_width: int) -> None:
        super().__init__()
        out = context_width * ID_TOKENS
        self.body = mlp(width, min(out // 4, _HIDDEN), min(out // 2, _HIDDEN), out)
        for scale in range(SCALES):
            for name in ("mapping", "mapping_patch"):
                self.add_module(f"{name}_{scale}", mlp(clip_width, clip_width, clip_width, context_width))

    def forward(self, vector: Tensor, scales: Tensor) -> Tensor:
        """Vector [M, W] and hidden states [M, 5, T, D], the class token first → tokens [M, 10, C]."""
        tokens = [self.body(vector).unflatten(-1, (ID_TOKENS, -1))]
        for scale, states in enumerate(scales.unbind(dim=1)):
            whole = self.get_submodule(f"mapping_{scale}")(states[:, :1])
            patches = self.get_submodule(f"mapping_patch_{scale}")(states[:, 1:])
            tokens.append(whole + patches.mean(dim=1, keepdim=True))
        return torch.cat(tokens, dim=1)


class IdFormer(nn.Module):
    """v1.1: 32 tokens; a Perceiver as wide as the tower, in heads of 64 (1024, 16 heads as published)."""

    tokens = QUERIES

    def __init__(self, width: int, clip_width: int, context_width: int, depth: int = DEPTH) -> None:
        super().__init__()
        assert depth % SCALES == 0, depth
        dim, head_dim = clip_width, min(_HEAD_DIM, clip_width)
        self.latents = nn.Parameter(torch.randn(1, QUERIES, dim) / dim**0.5)
        self.proj_out = nn.Parameter(torch.randn(dim, context_width) / dim**0.5)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, head_dim, dim // head_dim), feed_forward(dim)]) for _ in range(depth)
        )
        for scale in range(SCALES):
            self.add_module(f"mapping_{scale}", mlp(clip_width, clip_width, clip_width, dim))
        self.id_embedding_mapping = mlp(width, dim, dim, dim * ID_TOKENS)

    def forward(self, vector: Tensor, scales: Tensor) -> Tensor:
        """Vector [M, W] and hidden states [M, 5, T, D] → tokens [M, 32, C]."""
        identity = self.id_embedding_mapping(vector).unflatten(-1, (ID_TOKENS, -1))
        latents = torch.cat([self.latents.expand(len(vector), -1, -1), identity], dim=1)
        layers: list[Any] = list(self.layers)
        each = len(layers) // SCALES
        for scale, states in enumerate(scales.unbind(dim=1)):
            seen = torch.cat([identity, self.get_submodule(f"mapping_{scale}")(states)], dim=1)
            for attention, feed in layers[scale * each : (scale + 1) * each]:
                latents = latents + attention(seen, latents)
                latents = latents + feed(latents)
        return latents[:, :QUERIES] @ self.proj_out
