"""Textual Inversion: a new word's embedding is all that is learned; it stands where the class word stood.

One vector a text encoder and token, put where the encoder looks its tokens up. Source: arXiv 2208.01618 eq. 2.
Published files: one tensor [vectors, width] under the word's name (SD1.5), or `clip_l` and `clip_g` (SDXL).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from crawl.errors import InputError
from shards.encoders.text import TextStates, pieces
from train.adapters.adapter import Adapter, Conditions, Group, Needs
from train.adapters.published import load_into, read_weights
from train.adapters.settings import AdapterSettings, TextualInversionSettings
from train.adapters.trigger import expand
from train.adapters.words import trained_with, with_placeholder
from train.base_models import Base
from train.data.batch import Batch
from train.step import Step, Term

NAMES = {1: ("embedding",), 2: ("clip_l", "clip_g")}
"""By the number of text encoders, in their order; SDXL's as in published files."""


class TextualInversion(Adapter):
    """One person a run. A prompt without a class word, and one without `identity`, is read as it stands."""

    kind = "textual_inversion"
    settings: TextualInversionSettings

    def __init__(self, settings: TextualInversionSettings, base: Base) -> None:
        super().__init__(settings, base)
        models: list[Any] = list(base.text.models)
        names = NAMES[len(models)]
        self.words = nn.ParameterDict(
            {
                name: nn.Parameter(_begun(tokenizer, model, settings))
                for name, tokenizer, model in zip(names, base.text.tokenizers, models, strict=True)
            }
        )
        self.to(base.device)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        return Needs(one_person=True)

    def groups(self) -> list[Group]:
        return [Group("words", tuple(self.words.parameters()))]

    def conditions(self, batch: Batch) -> Conditions:
        """The batch's own prompts, the word in place of their class word."""
        return self._of(batch.prompts.general, batch.prompts.trigger_position, batch)

    def losses(self, step: Step) -> dict[str, Term]:
        """Diffusion alone."""
        return {
            "diffusion": Term(step.diffusion(self._of(*trained_with(step.batch, self.settings.prompt), step.batch)))
        }

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """There are none: the person is a word."""
        return batch.latents.new_zeros(len(batch), 1)

    @classmethod
    def refusal(cls, settings: AdapterSettings, format: str) -> str | None:
        if format == "comfyui":
            return "adapter.kind: textual_inversion: ComfyUI reads the file of `diffusers`"
        return super().refusal(settings, format)

    @classmethod
    def formats(cls, settings: AdapterSettings) -> frozenset[str]:
        return frozenset({"native", "diffusers"})

    def export(self, format: str) -> dict[str, Tensor]:
        """`diffusers`: what `load_textual_inversion` takes, whole (SD1.5) or a tensor at a time (SDXL)."""
        if format != "diffusers":
            return super().export(format)
        words = {name: self.words[name].detach().float().cpu().clone() for name in NAMES[len(self.words)]}
        return words if len(words) > 1 else {self.settings.placeholder_token: words["embedding"]}

    @torch.no_grad()
    def load_weights(self, path: str) -> None:
        """The inverse of `export`; of SD1.5's single tensor whatever its name."""
        state = read_weights(path)
        if len(self.words) == len(state) == 1:
            state = dict.fromkeys(NAMES[1], next(iter(state.values())))
        state = {name: vectors if vectors.ndim > 1 else vectors[None] for name, vectors in state.items()}
        for vectors in state.values():
            if len(vectors) != self.settings.vectors:
                raise InputError(f"{path}: holds {len(vectors)} vectors: set adapter.vectors: {len(vectors)}")
        load_into(self.words, state, path)

    def _of(self, prompts: Sequence[str], positions: Sequence[int], batch: Batch) -> Conditions:
        gone = (batch.drop.text | batch.drop.identity).tolist()
        counts = [0 if no or at <= 0 else self.settings.vectors for no, at in zip(gone, positions, strict=True)]
        shown = ["" if no else text for no, text in zip(batch.drop.text.tolist(), prompts, strict=True)]
        held = [
            with_placeholder(text, at) if count else (text, at)
            for text, at, count in zip(shown, positions, counts, strict=True)
        ]
        expanded = expand(self.base.text, [text for text, _ in held], [at for _, at in held], counts)
        with self._words_at(expanded.mask.to(self.base.text.device)):
            states: TextStates = self.base.text.forward(expanded.ids)
        time_ids = batch.time_ids if self.base.has_time_ids else None
        return Conditions(states.hidden, states.pooled, time_ids)

    @contextmanager
    def _words_at(self, mask: Tensor) -> Iterator[None]:
        """Inside, the encoders see our vectors where `mask` [B, 77] is true."""
        models: list[Any] = list(self.base.text.models)
        with ExitStack() as hooks:
            for name, model in zip(NAMES[len(models)], models, strict=True):  # a ParameterDict sorts its names
                hook = model.get_input_embeddings().register_forward_hook(partial(_put, mask, self.words[name]))
                hooks.callback(hook.remove)
            yield


def _put(mask: Tensor, vectors: Tensor, module: nn.Module, arguments: Any, embedded: Tensor) -> Tensor:
    """The word's vectors in their order, in each row."""
    order = (mask.cumsum(1) - 1).clamp(min=0) % len(vectors)
    return torch.where(mask[..., None], vectors[order].to(embedded.dtype), embedded)


def _begun(tokenizer: Any, model: Any, settings: TextualInversionSettings) -> Tensor:
    """[vectors, width]: the mean of the initial word's tokens."""
    if settings.placeholder_token in tokenizer.get_vocab():
        raise InputError(f"adapter.placeholder_token: {settings.placeholder_token!r}: the tokenizer has this word")
    (tokens,) = pieces(tokenizer, [settings.initial_word])
    if not tokens:
        raise InputError(f"adapter.initial_word: {settings.initial_word!r}: no word")
    weight: Tensor = model.get_input_embeddings().weight
    return weight[tokens].detach().float().mean(0).repeat(settings.vectors, 1)
