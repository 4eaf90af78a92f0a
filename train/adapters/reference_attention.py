"""K′ and V′ of several references in one layer: matrices shared by all references, or a pair for each slot.

Keys and values are pooled each in its own way. Equal to `StreamKv` for one reference. Source: IP-Adapter with several
images: W′_k,p and W′_v,p, 2N matrices a layer, K′ = G(…), V′ = U(…).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from train.adapters.adapter import Stream
from train.adapters.aggregation import Pooling
from train.adapters.attention import StreamLayer, attend, copied, split_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStream(Stream):
    """A stream whose `tokens` [B, N·T, C] come from N references; `mask` [B, N·T] when they stay side by side."""

    keys: Pooling
    values: Pooling


class ReferenceKv(StreamLayer):
    """W′_k and W′_v of one layer, float32, begun as the layer's own K and V. `slots`: a pair for each of them."""

    def __init__(self, attention: Any, slots: int | None = None) -> None:
        super().__init__()
        make = copied if slots is None else lambda linear: SlotLinear(linear, slots)
        self.to_k = make(attention.to_k)
        self.to_v = make(attention.to_v)

    def forward(self, query: Tensor, stream: ReferenceStream, heads: int) -> Tensor:
        """Query [B, heads, L, d] → λ·softmax(Q Gᵀ/√d)·U [B, heads, L, d].

        Where one side is pooled to a single set and the other is not, that set stands beside every reference.
        """
        key, value = (
            pool(matrix(pool.tokens.to(matrix.weight.dtype)))
            for pool, matrix in ((stream.keys, self.to_k), (stream.values, self.to_v))
        )
        key, value = torch.broadcast_tensors(key, value)
        key, value = (split_heads(states.flatten(1, 2), heads).to(query.dtype) for states in (key, value))
        return stream.scale * attend(query, key, value, stream)


class SlotLinear(nn.Module):
    """A matrix of its own for each slot: [B, N, T, C] → [B, N, T, D], no bias; all begin as copies of `linear`."""

    def __init__(self, linear: Any, slots: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(copied(linear).weight.detach().repeat(slots, 1, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.einsum("bntc,ndc->bntd", tokens, self.weight[: tokens.shape[1]])
