"""PuLID's identity attention beside the text's: plain, or bent so that it disturbs the text less.

Zero tokens give queries that find nobody a place to look. The orthogonal modes take out of the identity's part what
lies along the text's, channel by channel over all places: `style` all of it, `fidelity` less of it the more a query
looks at the identity's own tokens. Source: ToTheBeginning/PuLID (`ORTHO`, `ORTHO_v2`, whose weights m are a softmax
of logits that are not divided by √d).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from train.adapters.adapter import Stream
from train.adapters.attention import StreamLayer, attend, copied, split_heads

Mode = Literal["plain", "fidelity", "style"]
ZERO_TOKENS: dict[Mode, int] = {"plain": 0, "fidelity": 8, "style": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStream(Stream):
    """Tokens [B, T, C] of one or several references, side by side."""

    mode: Mode = "plain"
    own: Tensor | None = None
    """bool [T]: each reference's first five tokens, whose share of the attention is m; `fidelity` wants it."""


class IdentityKv(StreamLayer):
    """`id_to_k` and `id_to_v` of one layer, float32, begun as the layer's own K and V."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.id_to_k = copied(attention.to_k)
        self.id_to_v = copied(attention.to_v)

    def joined(self, attended: Tensor, query: Tensor, stream: Stream, heads: int) -> Tensor:
        """Text's attention and queries [B, heads, L, d] → A_text + λ·(what the mode leaves of A_id)."""
        assert isinstance(stream, IdentityStream)
        tokens, zeros = stream.tokens.to(self.id_to_k.weight.dtype), ZERO_TOKENS[stream.mode]
        key, value = (
            functional.pad(split_heads(linear(tokens), heads), (0, 0, 0, zeros)).to(query.dtype)
            for linear in (self.id_to_k, self.id_to_v)
        )
        mask = None if stream.mask is None else functional.pad(stream.mask, (0, zeros), value=True)
        found = attend(query, key, value, dataclasses.replace(stream, mask=mask))
        if stream.mode == "plain":
            return attended + stream.scale * found
        text, identity = attended.float(), found.float()
        along = _projection(identity, text)
        if stream.mode == "style":
            return (text + stream.scale * (identity - along)).to(attended.dtype)
        assert stream.own is not None
        share = identity_share(query, key, mask, functional.pad(stream.own, (0, zeros)))
        return (text + stream.scale * (identity + (share - 1) * along)).to(attended.dtype)


def identity_share(query: Tensor, key: Tensor, mask: Tensor | None, own: Tensor) -> Tensor:
    """m [B, 1, L, 1]: the part of softmax(Q·Kᵀ) on the tokens `own` [T], mean over heads."""
    logits = (query @ key.transpose(-2, -1)).float()
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
    return logits.softmax(dim=-1)[..., own].sum(dim=-1, keepdim=True).mean(dim=1, keepdim=True)


def _projection(identity: Tensor, text: Tensor) -> Tensor:
    """Of `identity` onto `text`, each channel a vector over the places L."""
    length = text.square().sum(dim=-2, keepdim=True).clamp_min(torch.finfo(text.dtype).tiny)
    return (identity * text).sum(dim=-2, keepdim=True) / length * text
