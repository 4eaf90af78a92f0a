"""Cross-attentions one after another: text, then each condition with a skip. The thesis' target (3.3.2).

h = x + A_text(x); for each condition c: h ← h + λ_c · Wo_c · SDPA(Wq_c h, Wk_c c, Wv_c c). Wq, Wk, Wv begin as the
layer's own, Wo as zero, so that the base is unchanged until trained. (The thesis shares the layer's Wo, which changes
the base from the start.) Knows nothing of what the conditions are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from train.adapters.adapter import Stream
from train.adapters.attention import DecoupledAttention, StreamKv, copied, join_heads, split_heads
from train.base_models import Base


class Stage(StreamKv):
    """One condition in one layer: W_q, W_k, W_v and a zero W_o, float32, without bias."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        width = attention.to_q.in_features
        self.to_q = copied(attention.to_q)
        self.to_out = nn.Linear(attention.to_q.out_features, width, bias=False)
        self.to_out.weight.data.zero_()

    def added(self, hidden: Tensor, stream: Stream, heads: int) -> Tensor:
        """Hidden [B, L, D] → what the condition adds to it; exactly zero where the sample lacks it."""
        query = split_heads(_in_dtype(self.to_q, hidden), heads)
        return _in_dtype(self.to_out, join_heads(self.forward(query, stream, heads)))


class SequentialAttention(nn.Module):
    """Processor of one cross-attention layer. `streams`: condition → its stage, in order."""

    def __init__(self, streams: Mapping[str, Stage]) -> None:
        super().__init__()
        self.streams = nn.ModuleDict(dict(streams))

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        streams: Mapping[str, Stream] | None = None,
    ) -> Tensor:
        """`hidden_states` x [B, L, D]; gives h − x, as the block adds the skip around the whole."""
        output = _PLAIN(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        for name, stage in self.streams.items():
            if streams is not None and name in streams:
                output = output + stage.added(hidden_states + output, streams[name], attn.heads)  # type: ignore[operator]
        return output


_PLAIN = DecoupledAttention()


def install_sequence(base: Base, names: Iterable[str]) -> dict[int, SequentialAttention]:
    """Give each cross-attention layer a stage for each name, in this order; self-attention stays as it is.

    Returns index → processor of the cross layers.
    """
    names = tuple(names)
    processors: dict[str, nn.Module] = {name: DecoupledAttention() for name in base.processor_names()}
    found: dict[int, SequentialAttention] = {}
    for index, name in base.cross_layers().items():
        attention = base.unet.get_submodule(name.removesuffix(".processor"))
        found[index] = SequentialAttention({stream: Stage(attention) for stream in names}).to(base.device)
        processors[name] = found[index]
    base.unet.set_attn_processor(processors)
    return found


def _in_dtype(linear: nn.Linear, states: Tensor) -> Tensor:
    """The float32 weight at work in the dtype of the base: queries are as many as latents."""
    return functional.linear(states, linear.weight.to(states.dtype))
