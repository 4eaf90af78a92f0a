"""PhotoMaker's fuse module: id embeddings merged into the class tokens of a prompt's hidden states.

Parameters are named as in the published files. Knows nothing of tokens or pictures.
Source: PhotoMaker, arXiv 2312.04461, section 3.2 (stacked ID embedding); shapes of the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """fc2(GELU(fc1(LN(x)))); inside and outside as wide as `width`."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(in_width)
        self.fc1 = nn.Linear(in_width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(self.layernorm(states))))
        return out


class FuseModule(nn.Module):
    """With class token c and id embedding e: h = c + MLP₁[c; e], then LN(h + MLP₂(h))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp1 = Mlp(2 * width, width)
        self.mlp2 = Mlp(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def fuse(self, words: Tensor, embeddings: Tensor) -> Tensor:
        """Class tokens [M, C] and as many id embeddings [M, C] → stacked ID embedding [M, C]."""
        merged = words + self.mlp1(torch.cat([words, embeddings], dim=-1))
        out: Tensor = self.layer_norm(merged + self.mlp2(merged))
        return out

    def forward(self, hidden: Tensor, mask: Tensor, embeddings: Tensor) -> Tensor:
        """Hidden states [B, T, C], class tokens bool [B, T], id embeddings [M, C] in the order of the class tokens.

        → [B, T, C], a new tensor. M is the sum of `mask`: samples may have different numbers, or none.
        """
        hidden = hidden.float()
        fused = self.fuse(hidden[mask], embeddings.float())
        return hidden.masked_scatter(mask[..., None], fused.float())
