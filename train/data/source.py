"""What the loop asks of data: batches as a pure function of the step. Knows no file and no model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from train.data.batch import Batch


class BatchSource(Protocol):
    """Where batches come from."""

    @property
    def digest(self) -> str:
        """Hash of the data and of how samples are drawn from it: a resumed run must find the same."""
        ...

    def batch(self, step: int, rows: range, batch_size: int) -> Batch:
        """Rows of the whole batch of `step`, 0 ≤ row < `batch_size`; global sample index = step · batch_size + row.

        The same for any split into ranks and micro-batches.
        """
        ...

    def held_out(self, count: int) -> Batch:
        """Always the same samples, of photos kept from training where there are any; all identities in turn."""
        ...

    def swapped(self, batch: Batch) -> Batch:
        """The same targets and prompts, each with the references of another identity of the batch."""
        ...

    def photos(self, count: int) -> Tensor:
        """Always the same training crops, uint8 [≤ count, 3, S, S], all identities in turn: a random VAE is fitted."""
        ...

    def faces(self, batch: Batch) -> list[list[Tensor]]:
        """Each sample's reference faces, uint8 [3, R, R], for people to look at."""
        ...
