"""Cross-attention with decoupled streams beside the text: Z = A(Q, K, V) + Σ λ_s·A(Q, K′_s, V′_s).

One processor class for every adapter; streams reach it through the UNet's `cross_attention_kwargs`. Equal to
diffusers' AttnProcessor2_0 when there are none. Source: IP-Adapter, arXiv 2308.06721 eq. 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.adapters.adapter import Stream
from train.base_models import Base


class StreamLayer(nn.Module):
    """One stream's part in one layer. Called with (query, stream, heads) it says what the queries find there."""

    def joined(self, attended: Tensor, query: Tensor, stream: Stream, heads: int) -> Tensor:
        """The text's attention with this stream's beside it [B, heads, L, d]: their sum, unless a method bends it."""
        found: Tensor = self(query, stream, heads)
        return attended + found


@dataclass(slots=True, eq=False)
class Watch:
    """Queries and text keys [B, heads, L or T, d] of all cross-attention layers, in the order they run.

    Handed to one call of the UNet and closed behind it: gradient checkpointing runs layers again.
    """

    keys: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    is_open: bool = True

    def see(self, key: Tensor, query: Tensor) -> None:
        if self.is_open:
            self.keys.append(key)
            self.queries.append(query)


class StreamKv(StreamLayer):
    """W′_k and W′_v of one stream in one layer, without bias, float32. They begin as the layer's own K and V."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.to_k = copied(attention.to_k)
        self.to_v = copied(attention.to_v)

    def forward(self, query: Tensor, stream: Stream, heads: int) -> Tensor:
        """Query [B, heads, L, d] → λ·A(Q, K′, V′) [B, heads, L, d], zero where the sample lacks the stream."""
        tokens = stream.tokens.to(self.to_k.weight.dtype)
        key, value = (split_heads(linear(tokens), heads).to(query.dtype) for linear in (self.to_k, self.to_v))
        return stream.scale * attend(query, key, value, stream)


class DecoupledAttention(nn.Module):
    """Processor of one attention layer, self or cross. `streams`: name → its K and V; none in self-attention."""

    def __init__(self, streams: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.streams = nn.ModuleDict(dict(streams or {}))

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        streams: Mapping[str, Stream] | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """`hidden_states` [B, L, D] (SDXL's and SD1.5's transformer blocks; no spatial norm, no group norm)."""
        assert hidden_states.ndim == 3
        assert attention_mask is None
        assert attn.group_norm is None
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        key, value = split_heads(attn.to_k(context), attn.heads), split_heads(attn.to_v(context), attn.heads)
        if watch is not None and encoder_hidden_states is not None:
            watch.see(key, query)
        attended = functional.scaled_dot_product_attention(query, key, value)
        layers: Mapping[str, Any] = self.streams  # type: ignore[assignment]
        for name, layer in layers.items():
            if streams is not None and name in streams:
                attended = layer.joined(attended, query, streams[name], attn.heads)
        output: Tensor = attn.to_out[1](attn.to_out[0](join_heads(attended)))
        return output


def attend(query: Tensor, key: Tensor, value: Tensor, stream: Stream) -> Tensor:
    """Attention to a stream's existing tokens; exactly zero for samples that lack it or have no token."""
    mask, present = stream.mask, stream.present
    if mask is not None:
        some = mask.any(dim=1)
        present = some if present is None else present & some
        mask = (mask | ~some[:, None])[:, None, None, :]  # a row without tokens would be NaN; it is zeroed below
    attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    if present is None:
        return attended
    return torch.where(present[:, None, None, None], attended, torch.zeros_like(attended))


def split_heads(states: Tensor, heads: int) -> Tensor:
    """[B, L, heads·d] → [B, heads, L, d]."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(states: Tensor) -> Tensor:
    """The inverse of `split_heads`."""
    return states.transpose(1, 2).flatten(2)


def install_streams(
    base: Base, names: Iterable[str], make: Callable[[Any], nn.Module] = StreamKv
) -> dict[int, DecoupledAttention]:
    """Give every attention layer our processor; cross-attention gets a `make(attention)` for each stream name.

    Returns index → processor of the cross layers, the indices of every published format.
    """
    cross = base.cross_layers()
    names = tuple(names)
    processors: dict[str, DecoupledAttention] = {}
    for index, name in enumerate(base.processor_names()):
        attention = base.unet.get_submodule(name.removesuffix(".processor"))
        streams = {stream: make(attention) for stream in names} if index in cross else {}
        processors[name] = DecoupledAttention(streams).to(base.device)
    base.unet.set_attn_processor(dict(processors))
    return {index: processors[name] for index, name in cross.items()}


def copied(linear: nn.Linear) -> nn.Linear:
    """A trainable float32 copy, without bias."""
    size, device = (linear.in_features, linear.out_features), linear.weight.device
    copy = nn.utils.skip_init(nn.Linear, *size, bias=False, device=device)
    copy.weight.data.copy_(linear.weight.data)
    return copy
