"""One vector of a reference photo → T tokens of the UNet's context width: IP-Adapter `base` and `faceid`.

Parameters are named as in the published files. Source: tencent-ailab/IP-Adapter (shapes).
"""

from __future__ import annotations

from torch import Tensor, nn


class LinearProjection(nn.Module):
    """`base`: pooled CLIP embedding [..., P] → Linear → T × C → LayerNorm: [..., T, C]."""

    def __init__(self, width: int, tokens: int, context_width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Linear(width, tokens * context_width)
        self.norm = nn.LayerNorm(context_width)

    def forward(self, embedding: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(embedding).unflatten(-1, (self.tokens, -1)))
        return tokens


class FaceProjection(nn.Module):
    """`faceid`: face embedding [..., E] → Linear E → 2E → GELU → Linear → T × C → LayerNorm: [..., T, C]."""

    def __init__(self, width: int, tokens: int, context_width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, tokens * context_width))
        self.norm = nn.LayerNorm(context_width)

    def forward(self, embedding: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(embedding).unflatten(-1, (self.tokens, -1)))
        return tokens
