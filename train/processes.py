"""The processes of a run under torchrun, or one alone: who holds which rows, sums over all of them.

Gradients are summed by hand, once a step, so that any module may be trained, nothing is wrapped, and a step
is the same for any number of processes. Knows nothing of models.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from crawl.errors import InputError

Value = TypeVar("Value")
_CPU = torch.device("cpu")
_PATIENCE = timedelta(hours=2)
"""Rank 0 fits a VAE, measures gauges and draws grids while the others wait."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among the `world` of them."""

    rank: int = 0
    world: int = 1
    device: torch.device = _CPU

    @property
    def is_main(self) -> bool:
        """Only this one writes."""
        return self.rank == 0

    def rows(self, batch_size: int) -> range:
        """This process' rows of a whole batch: contiguous, sizes differ by one at most. Raises InputError."""
        if batch_size < self.world:
            raise InputError(f"loop.batch_size: {batch_size} samples cannot be shared by {self.world} processes")
        return range(batch_size * self.rank // self.world, batch_size * (self.rank + 1) // self.world)

    def add(self, tensor: Tensor) -> None:
        """The sum over all processes, in place; NaN in one is NaN in all."""
        if self.world > 1:
            dist.all_reduce(tensor)

    @torch.no_grad()
    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather(self, value: Value) -> list[Value]:
        """Everyone's value, by rank, in every process."""
        if self.world == 1:
            return [value]
        values: list[Value] = [value] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that torchrun started (its RANK, WORLD_SIZE, LOCAL_RANK), or this one alone; CUDA where it is."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Processes(device=device)
        return
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
