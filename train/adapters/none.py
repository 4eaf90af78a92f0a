"""No adapter: text alone. What a base from scratch is trained with, and the loop's own tests run on."""

from __future__ import annotations

from torch import Tensor

from train.adapters.adapter import Adapter, Conditions, Group, Needs
from train.adapters.settings import AdapterSettings
from train.data.batch import Batch


class NoAdapter(Adapter):
    """The general prompt, nothing else."""

    kind = "none"

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        return Needs(text=("general",))

    def groups(self) -> list[Group]:
        return []

    def conditions(self, batch: Batch) -> Conditions:
        text = batch.general()
        return Conditions(text.hidden, text.pooled, batch.time_ids if self.base.has_time_ids else None)

    def identity_embeddings(self, batch: Batch) -> Tensor:
        return batch.latents.new_zeros(len(batch), 1)
