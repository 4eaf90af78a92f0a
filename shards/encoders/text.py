"""Text encoders as SDXL and SD1.5 use them: token ids in, hidden states and the pooled vector out.

Knows nothing of triggers or prompts in parts: an adapter that edits token ids does so between `ids` and `forward`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MAX_TOKENS = 77
_TURN = threading.Lock()
"""A tokenizer keeps how it pads in itself; the thread that makes batches and an adapter in another use the same one."""


@dataclass(frozen=True, slots=True)
class TextStates:
    """What the UNet attends to."""

    hidden: Tensor
    """[B, 77, C]. SDXL: `hidden_states[-2]` of both encoders, 768 + 1280; SD1.5: the last, normalised."""
    pooled: Tensor | None
    """[B, P] of the last encoder (SDXL: 1280); None for SD1.5."""

    def where(self, condition: Tensor, other: TextStates) -> TextStates:
        """This where `condition` [B] is true, else `other` (whose batch may be 1)."""
        hidden = torch.where(condition[:, None, None], self.hidden, other.hidden)
        if self.pooled is None or other.pooled is None:
            return TextStates(hidden, None)
        return TextStates(hidden, torch.where(condition[:, None], self.pooled, other.pooled))


class TextEncoders(nn.Module):
    """One CLIP text encoder (SD1.5) or two (SDXL, tiny), with their tokenizers."""

    def __init__(self, tokenizers: Sequence[Any], models: Sequence[nn.Module], penultimate: bool) -> None:
        super().__init__()
        assert len(tokenizers) == len(models)
        self.tokenizers = list(tokenizers)
        self.models = nn.ModuleList(models)
        self._models: list[Any] = list(models)
        self.penultimate = penultimate
        """SDXL's way: the last but one hidden state, without the final norm; and a pooled vector."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden size of each encoder; their sum is the UNet's context width."""
        return tuple(int(model.config.hidden_size) for model in self._models)

    @property
    def device(self) -> torch.device:
        return next(self.models.parameters()).device

    def ids(self, texts: Sequence[str]) -> list[Tensor]:
        """Per encoder [B, 77]: begin, tokens, end, padding; longer texts lose their tail, never the end token."""
        with _TURN:
            return [
                tokenizer(
                    list(texts), padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
                ).input_ids
                for tokenizer in self.tokenizers
            ]

    def forward(self, ids: Sequence[Tensor]) -> TextStates:
        """Per encoder token ids [B, 77]."""
        hidden, pooled = [], None
        for model, tokens in zip(self.models, ids, strict=True):
            states = model(tokens.to(self.device), output_hidden_states=True)
            hidden.append(states.hidden_states[-2] if self.penultimate else states.last_hidden_state)
            pooled = getattr(states, "text_embeds", None)
        return TextStates(torch.cat(hidden, dim=-1), pooled)

    def encode(self, texts: Sequence[str]) -> TextStates:
        return self.forward(self.ids(texts)) if texts else self._none()

    def _none(self) -> TextStates:
        one = self.forward(self.ids([""]))
        return TextStates(one.hidden[:0], None if one.pooled is None else one.pooled[:0])


def pieces(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Each text's token ids, however many, without begin, end and padding."""
    with _TURN:
        found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
    return found
