"""Several references → one set of keys (G) and one set of values (U). One class an entry of `Aggregation`.

An aggregator looks at all tokens once and says how a layer is to pool them, after the layer's own matrices:
Z = A(Q, K, V) + λ·softmax(Q·G(K′₁ … K′_N)ᵀ/√d)·U(V′₁ … V′_N). Tokens [B, N, T, C]: token t of one reference is pooled
with token t of the others. Every learned aggregator begins as the mean of the references that are present.

Permutation-invariant: all but `linear`, and `self_attention` that concatenates. Knows nothing of layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from train.adapters.settings import Aggregation


@dataclass(frozen=True, slots=True)
class Pooling:
    """The tokens a layer projects, and how it makes one set of what comes out."""

    tokens: Tensor
    """[B, N, T, C]."""
    present: Tensor
    """bool [B, N], at least one a sample."""
    how: Literal["concat", "max", "sum"]
    weights: Tensor | None = None
    """`sum`: [B, N, T or 1], zero where absent."""

    @property
    def count(self) -> int:
        """References left side by side."""
        return self.tokens.shape[1] if self.how == "concat" else 1

    def __call__(self, states: Tensor) -> Tensor:
        """Projected states [B, N, T, D] → [B, N, T, D] (concat) or [B, 1, T, D]."""
        if self.how == "concat":
            return states
        if self.how == "max":
            absent = ~self.present[:, :, None, None]
            return states.masked_fill(absent, -torch.inf).amax(1, keepdim=True)
        assert self.weights is not None
        return (self.weights[..., None] * states).sum(1, keepdim=True)


class Concat(nn.Module):
    """All tokens of all references side by side (PhotoMaker's winner; what diffusers and ComfyUI do)."""

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        return Pooling(tokens, present, "concat")


class Mean(nn.Module):
    """The mean of the references."""

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        return Pooling(tokens, present, "sum", _mean(present)[..., None])


class Max(nn.Module):
    """The greatest value of each channel."""

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        return Pooling(tokens, present, "max")


class Linear(nn.Module):
    """A learned weight a slot: Σ a_p·x_p / n over the n references present; a begins at one."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(slots))

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        weights = self.weight[: tokens.shape[1]] * _mean(present)
        return Pooling(tokens, present, "sum", weights[..., None])


class Weighted(nn.Module):
    """A learned score of each reference as a whole: softmax over references of w·LayerNorm(its mean token)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = _zero(nn.Linear(width, 1, bias=False))

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        scores: Tensor = self.score(self.norm(tokens.mean(2)))
        return Pooling(tokens, present, "sum", _softmax(scores, present))


class Attention(nn.Module):
    """A learned query for each of the T tokens: softmax over references of q_t·(W x_pt)/√C."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(tokens, width))
        self.to_k = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        scores = (self.query * self.to_k(tokens)).sum(-1) / tokens.shape[-1] ** 0.5
        return Pooling(tokens, present, "sum", _softmax(scores, present))


class SelfAttention(nn.Module):
    """References attend to each other: softmax(q kᵀ/√C)·v with q, k, v = Linear(C); then their mean.

    `concat`, as the authors write it: the N results side by side and one matrix N·C → C, so that N is fixed and
    order counts; absent slots are zero. Source: BoLID's follow-up (2025), there on CLIP embeddings of width 1024
    before the projection. v begins as the identity, the matrix as a mean.
    """

    def __init__(self, width: int, slots: int, pool: Literal["mean", "concat"]) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        nn.init.eye_(self.to_v.weight)
        nn.init.zeros_(self.to_v.bias)
        self.merge = nn.Linear(slots * width, width) if pool == "concat" else None
        if self.merge is not None:
            self.merge.weight.data.copy_(torch.eye(width).repeat(1, slots) / slots)
            nn.init.zeros_(self.merge.bias)

    def forward(self, tokens: Tensor, present: Tensor) -> Pooling:
        across = tokens.transpose(1, 2)  # [B, T, N, C]: token t of every reference
        mask = present[:, None, None, :]
        mixed = nn.functional.scaled_dot_product_attention(
            self.to_q(across), self.to_k(across), self.to_v(across), attn_mask=mask
        )
        if self.merge is None:
            return Pooling(mixed.transpose(1, 2), present, "sum", _mean(present)[..., None])
        slots = self.merge.in_features // tokens.shape[-1]
        kept = torch.where(mask.transpose(-1, -2), mixed, torch.zeros_like(mixed))
        padded = nn.functional.pad(kept, (0, 0, 0, slots - tokens.shape[1]))
        merged = self.merge(padded.flatten(2))[:, None]
        return Pooling(merged, torch.ones_like(present[:, :1]), "concat")


class Slots(Protocol):
    """What an adapter's settings say of its references."""

    @property
    def max_references(self) -> int: ...
    @property
    def token_count(self) -> int: ...
    @property
    def self_attention(self) -> Literal["mean", "concat"]: ...


def aggregator(how: Aggregation, settings: Slots, width: int) -> nn.Module:
    """An aggregator of tokens [B, N, T, `width`] for at most `settings.max_references` references."""
    slots = settings.max_references
    makers: dict[Aggregation, Callable[[], nn.Module]] = {
        "concat": Concat,
        "mean": Mean,
        "max": Max,
        "linear": lambda: Linear(slots),
        "weighted": lambda: Weighted(width),
        "attention": lambda: Attention(width, settings.token_count),
        "self_attention": lambda: SelfAttention(width, slots, settings.self_attention),
    }
    return makers[how]()


def _mean(present: Tensor) -> Tensor:
    """Weights [B, N] of the mean over those present."""
    return present / present.sum(1, keepdim=True)


def _softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Over the references present: [B, N, …]."""
    return scores.masked_fill(~present[..., None], -torch.inf).softmax(1)


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    return linear
