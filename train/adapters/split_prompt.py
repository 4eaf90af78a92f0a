"""The thesis' method: PhotoMaker's identity, and a cross-attention of its own for each extra part of the prompt.

`parallel` (5.2.4, and with body): h = A(Q, K, V) + Σ λ_c·A(Q, K_c, V_c). `sequential`: background → body → identity
(3.3.2). Knows nothing of how captions are split.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from train.adapters.adapter import Needs, Stream
from train.adapters.photomaker import PhotoMaker, by_stream
from train.adapters.sequential import install_sequence
from train.adapters.settings import AdapterSettings, PhotoMakerSettings, SplitPromptSettings
from train.data.batch import Batch

ORDER = ("background", "body")


class SplitPrompt(PhotoMaker):
    """A part that is dropped, or empty, is absent: exactly as if it had no attention."""

    kind = "split_prompt"
    settings: SplitPromptSettings

    @classmethod
    def stream_names(cls, settings: PhotoMakerSettings) -> tuple[str, ...]:
        """In the sequence identity comes last, and always: `identity_path` says whether the prompt has it too."""
        assert isinstance(settings, SplitPromptSettings)
        parts = tuple(part for part in ORDER if part in settings.parts)
        return (*parts, "identity") if settings.order == "sequential" else parts + super().stream_names(settings)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        assert isinstance(settings, SplitPromptSettings)
        needs = super().needs(settings)
        return dataclasses.replace(needs, text=needs.text + settings.parts, parts=("general", *settings.parts))

    def _install(self, names: tuple[str, ...]) -> nn.ModuleDict:
        if self.settings.order == "parallel":
            return super()._install(names)
        processors = install_sequence(self.base, names)
        return by_stream({index: processor.streams for index, processor in processors.items()}, names)

    def _streams(self, batch: Batch, used: Tensor, last: Tensor, embeddings: Tensor) -> dict[str, Stream]:
        streams = super()._streams(batch, used, last, embeddings)
        return streams | {part: self._part(batch, part) for part in self.settings.parts}

    def _part(self, batch: Batch, part: str) -> Stream:
        some = torch.tensor([bool(text.strip()) for text in getattr(batch.prompts, part)], device=batch.latents.device)
        present = some & ~batch.drop.text & ~getattr(batch.drop, part)
        return Stream(batch.prompts.states[part].hidden, present=present, scale=self._scale(part))

    def _scale(self, stream: str) -> float:
        return {str(name): scale for name, scale in self.settings.scales.items()}.get(stream, 1.0)
