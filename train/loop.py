"""The loop: optimiser steps over a batch source, whole batches split into processes and micro-batches.

A step is a sum over samples divided by the batch size, so every split gives the same step up to rounding. One
read-back a step tells whether it is finite; one that is not is never applied. Knows no file, no method, no log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from train.adapters.adapter import Adapter
from train.base_models import Base
from train.config import TrainRun
from train.data.batch import Batch
from train.data.draws import Draws
from train.data.loader import Loader
from train.data.source import BatchSource
from train.device import autocast
from train.optimise import Ema, Optimiser
from train.processes import Processes
from train.speed import flops_of
from train.step import draw_step
from train.trained import Trained


class NonFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite. The step was not applied; the message names step and samples."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one optimiser step gave, over all processes."""

    step: int
    """Steps done, this one included: the first is 1."""
    losses: Mapping[str, float]
    """Mean over the batch of each part, unweighted; `loss` is their weighted sum, which is minimised."""
    lr: Mapping[str, float]
    """Of each group, in this step."""
    grad_norm: float
    """Before clipping."""
    seconds: float
    wait_s: float
    """Of it, waiting for data: mean over processes."""
    stop: bool
    """Some process was asked to stop."""


@dataclass(frozen=True, slots=True)
class _Read:
    losses: dict[str, float]
    grad_norm: float
    wait_s: float
    stop: bool


@dataclass(frozen=True, eq=False)
class Loop:
    """All that a step needs."""

    run: TrainRun
    base: Base
    adapter: Adapter
    trained: Trained
    optimiser: Optimiser
    ema: Ema | None
    source: BatchSource
    draws: Draws
    among: Processes

    def steps(self, done: int, last: int, stop: Callable[[], bool]) -> Generator[Record, None, None]:
        """Steps `done` + 1 … `last`. Raises NonFiniteError."""
        self.adapter.train()
        loop, wanted = self.run.loop, ((step, rows) for step in range(done, last) for rows in self.chunks())
        with Loader(self.source, wanted, loop.batch_size, self.run.data.prefetch) as batches:
            for step in range(done, last):
                yield self._step(step, batches, stop)

    def chunks(self) -> list[range]:
        """This process' rows of every batch, a micro-batch at a time."""
        rows = self.among.rows(self.run.loop.batch_size)
        size = self.run.loop.micro_batch or len(rows)
        return [rows[at : at + size] for at in range(0, len(rows), size)]

    def flops(self) -> float:
        """Of one sample, forward and backward: the first of the first batch, run alone. Before `quicken`."""
        batch = self.source.batch(0, range(1), self.run.loop.batch_size).to(self.among.device)
        flops = flops_of(lambda: self.backward(batch))
        self.trained.clear()
        return flops

    def backward(self, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        """Add this micro-batch's gradients; each part's share of the batch mean, detached, and its weight."""
        with self._autocast():
            terms = self.adapter.losses(draw_step(self.base, batch, self.draws, self.run.loss))
        parts = {name: (term.per_sample.sum() / self.run.loop.batch_size, term.weight) for name, term in terms.items()}
        total = torch.stack([part * weight for part, weight in parts.values()]).sum()
        if total.requires_grad:
            total.backward()
        return {name: (part.detach(), weight) for name, (part, weight) in parts.items()}

    def _step(self, step: int, batches: Iterator[Batch], stop: Callable[[], bool]) -> Record:
        began, wait_s = time.perf_counter(), 0.0
        torch.manual_seed(int(self.draws.generator("torch", step).integers(2**63)))  # dropout, where there is any
        self.trained.clear()
        sums: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for _ in self.chunks():
            asked = time.perf_counter()
            batch = next(batches).to(self.among.device)
            wait_s += time.perf_counter() - asked
            for name, (part, weight) in self.backward(batch).items():
                sums[name] = sums[name] + part if name in sums else part
                weights[name] = weight
        read = self._read_back(sums, wait_s, stop())
        self._refuse(step, read.losses, read.grad_norm)
        self.trained.clip(read.grad_norm, self.run.optim.max_grad_norm)
        self.optimiser.step(step)
        if self.ema is not None:
            self.ema.update(step)
        losses = {"loss": sum(weights[name] * loss for name, loss in read.losses.items()), **read.losses}
        lr, seconds = self.optimiser.lr(step), time.perf_counter() - began
        return Record(step + 1, losses, lr, read.grad_norm, seconds, read.wait_s, read.stop)

    def _read_back(self, sums: dict[str, Tensor], wait_s: float, stop: bool) -> _Read:
        """Sum over processes, and wait for the device: once a step."""
        self.among.add(self.trained.gradients)
        numbers = [torch.tensor(value, device=self.among.device) for value in (wait_s, float(stop))]
        shared = torch.stack([*sums.values(), *numbers]).double()
        self.among.add(shared)
        norm = torch.linalg.vector_norm(self.trained.gradients).double()
        *losses, total_wait_s, stopping, length = torch.cat([shared, norm[None]]).tolist()
        return _Read(dict(zip(sums, losses, strict=True)), length, total_wait_s / self.among.world, stopping > 0)

    def _refuse(self, step: int, losses: dict[str, float], norm: float) -> None:
        bad = [f"loss {name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
        if not bad and math.isfinite(norm):
            return
        what = ", ".join(bad) or f"the gradient's norm is {norm}"
        keys = [key for keys in self.among.gather(self._culprits(step)) for key in keys]
        whose = "samples " + ", ".join(keys) if keys else "no single sample gives it alone"
        raise NonFiniteError(f"step {step + 1}: {what}: {whose}; the step was not applied")

    def _culprits(self, step: int) -> list[str]:
        """Keys of this process' samples that are not finite on their own: each is run alone."""
        keys: list[str] = []
        for row in self.among.rows(self.run.loop.batch_size):
            batch = self.source.batch(step, range(row, row + 1), self.run.loop.batch_size).to(self.among.device)
            self.trained.clear()
            parts = self.backward(batch)
            values = torch.stack([*(part for part, _ in parts.values()), self.trained.gradients.sum()])
            if not bool(values.isfinite().all()):
                keys.extend(batch.keys)
        return keys

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.among.device, self.run.loop.precision)
