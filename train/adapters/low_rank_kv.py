"""K and V of an extra attention that stay the layer's own, each with a low-rank update of its own (thesis, 5.2.3).

The updates begin as a copy of the layer's LoRA. Knows nothing of where the LoRA came from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from train.adapters.adapter import Stream
from train.adapters.attention import StreamLayer, attend, split_heads


class LowRank(nn.Module):
    """x ↦ W x + scale · up(down(x)); W is the layer's, frozen; down and up are float32."""

    def __init__(self, projection: Any, scale: float) -> None:
        super().__init__()
        self._projection = [projection]  # in a list: not a sub-module
        self.scale = scale
        down, up = projection.lora_A["default"].weight, projection.lora_B["default"].weight
        self.down = nn.Linear(down.shape[1], down.shape[0], bias=False, device=down.device)
        self.up = nn.Linear(up.shape[1], up.shape[0], bias=False, device=up.device)
        self.copy()

    @torch.no_grad()
    def copy(self) -> None:
        """The update becomes the layer's LoRA as it is now."""
        self.down.weight.copy_(self._projection[0].lora_A["default"].weight)
        self.up.weight.copy_(self._projection[0].lora_B["default"].weight)

    def forward(self, tokens: Tensor) -> Tensor:
        layer = self._projection[0].base_layer
        update: Tensor = self.scale * self.up(self.down(tokens.float()))
        return layer(tokens.to(layer.weight.dtype)).float() + update


class LowRankKv(StreamLayer):
    """In place of `StreamKv`, in a UNet that has LoRA."""

    def __init__(self, attention: Any, scale: float) -> None:
        super().__init__()
        self.to_k = LowRank(attention.to_k, scale)
        self.to_v = LowRank(attention.to_v, scale)

    def forward(self, query: Tensor, stream: Stream, heads: int) -> Tensor:
        """As `StreamKv`: query [B, heads, L, d] → λ·A(Q, K′, V′) [B, heads, L, d]."""
        key, value = (split_heads(of(stream.tokens), heads).to(query.dtype) for of in (self.to_k, self.to_v))
        return stream.scale * attend(query, key, value, stream)
