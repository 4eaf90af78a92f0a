"""PhotoMaker's trigger on token ids: the class token, repeated once for each identity token, is where identity goes.

The trigger itself never reaches a text encoder: `train.prompt` takes it out of what people type. Knows no picture.
Source: PhotoMaker, arXiv 2312.04461, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crawl.errors import InputError
from shards.encoders.text import MAX_TOKENS, TextEncoders, pieces

ROOM = MAX_TOKENS - 2
"""Tokens between begin and end."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """Prompts as token ids, the class token repeated."""

    ids: list[Tensor]
    """Per encoder int64 [B, 77]."""
    mask: Tensor
    """bool [B, 77]: the class tokens, as many a prompt as were asked for; the same for all encoders."""


def expand(text: TextEncoders, prompts: Sequence[str], positions: Sequence[int], counts: Sequence[int]) -> Expanded:
    """The class token — the last token before `positions` — `counts` times in a row, in place of its one.

    A caption that becomes too long loses its tail, then its beginning; never the class tokens nor the end token.
    Count 0: the plain prompt.
    """
    assert all(0 <= count <= ROOM and (count == 0 or at > 0) for count, at in zip(counts, positions, strict=True))
    ids, masks = zip(*(_expand(t, prompts, positions, counts) for t in text.tokenizers), strict=True)
    if any(not torch.equal(mask, masks[0]) for mask in masks):
        raise InputError("base.weights: its tokenizers split a prompt differently: the class tokens do not line up")
    return Expanded(list(ids), masks[0])


def _expand(
    tokenizer: Any, prompts: Sequence[str], positions: Sequence[int], counts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    places = [at if count else 0 for at, count in zip(positions, counts, strict=True)]
    heads = pieces(tokenizer, [prompt[:at] for prompt, at in zip(prompts, places, strict=True)])
    tails = pieces(tokenizer, [prompt[at:] for prompt, at in zip(prompts, places, strict=True)])
    ids = torch.full((len(heads), MAX_TOKENS), int(tokenizer.pad_token_id))
    mask = torch.zeros(len(heads), MAX_TOKENS, dtype=torch.bool)
    for row, (head, tail, count) in enumerate(zip(heads, tails, counts, strict=True)):
        tokens, start = fit(head, tail, count)
        tokens = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, start + 1 : start + 1 + count] = True
    return ids, mask


def fit(head: Sequence[int], tail: Sequence[int], count: int) -> tuple[list[int], int]:
    """At most 75 tokens, the last of `head` `count` times; and where these begin."""
    if count == 0:
        return [*head, *tail][:ROOM], 0
    *before, word = head
    before = before[max(0, len(before) + count - ROOM) :]
    return [*before, *[word] * count, *tail][:ROOM], len(before)
