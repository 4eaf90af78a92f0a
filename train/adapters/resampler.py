"""Many tokens of a picture → a few: learned queries that attend to them, layer by layer (Perceiver, 2103.03206).

IP-Adapter Plus is this over the penultimate states of CLIP. Parameters are named as in its published files.
Source: tencent-ailab/IP-Adapter, `Resampler` (shapes).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.adapters.attention import join_heads, split_heads

HEAD_DIM = 64
"""Of every published IP-Adapter; diffusers reads the number of heads off the shapes by it."""


class Resampler(nn.Module):
    """States [..., S, D] of any number S → tokens [..., Q, C]."""

    def __init__(self, width: int, dim: int, depth: int, queries: int, context_width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(width, dim)
        self.proj_out = nn.Linear(dim, context_width)
        self.norm_out = nn.LayerNorm(context_width)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, HEAD_DIM, dim // HEAD_DIM), feed_forward(dim)]) for _ in range(depth)
        )

    def forward(self, states: Tensor) -> Tensor:
        tokens = self.proj_in(states.flatten(0, -3))
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            latents = latents + layer[0](tokens, latents)
            latents = latents + layer[1](latents)
        out: Tensor = self.norm_out(self.proj_out(latents))
        return out.unflatten(0, states.shape[:-2])


class PerceiverAttention(nn.Module):
    """Latents attend to the picture's tokens and to themselves; no bias."""

    def __init__(self, width: int, head_dim: int, heads: int) -> None:
        super().__init__()
        inner = head_dim * heads
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """Tokens [M, S, W] and latents [M, Q, W] → [M, Q, W]."""
        latents = self.norm2(latents)
        key, value = self.to_kv(torch.cat([self.norm1(tokens), latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (split_heads(states, self.heads) for states in (self.to_q(latents), key, value))
        out: Tensor = self.to_out(join_heads(functional.scaled_dot_product_attention(query, key, value)))
        return out


def feed_forward(width: int) -> nn.Sequential:
    """LayerNorm → Linear W → 4W → GELU → Linear; no bias."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
    )


def resampler_dim(context_width: int) -> int:
    """Inner width of IP-Adapter Plus for a base: that of its context, at most 1280, a whole number of heads.

    1280 and 20 heads for SDXL (context 2048), 768 and 12 heads for SD1.5, as published; 64 and one head for tiny.
    """
    return max(HEAD_DIM, min(context_width, 1280) // HEAD_DIM * HEAD_DIM)
