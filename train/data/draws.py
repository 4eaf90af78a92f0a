"""Counter-based randomness: every random choice is f(seed, purpose, step, global sample index).

So order, noise, drops and masks depend on neither world size nor workers, and resuming is exact without any
generator's state. Knows nothing of what is drawn for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draws:
    """All randomness of a run."""

    seed: int

    def generator(self, purpose: str, *counters: int) -> np.random.Generator:
        """A fresh generator for this purpose at this place: Philox keyed by a hash of both."""
        text = "\0".join([str(self.seed), purpose, *map(str, counters)])
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def normal(self, purpose: str, step: int, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Standard normal float32 [len(indices), *shape], a row a sample, on the CPU."""
        rows = [self.generator(purpose, step, i).standard_normal(tuple(shape), np.float32) for i in indices]
        return torch.from_numpy(np.stack(rows))

    def uniform(self, purpose: str, step: int, indices: Sequence[int]) -> Tensor:
        """Uniform in [0, 1), float64 [len(indices)]."""
        return torch.tensor([self.generator(purpose, step, i).random() for i in indices], dtype=torch.float64)

    def integers(self, purpose: str, step: int, indices: Sequence[int], below: int) -> Tensor:
        """Uniform in 0 … below − 1, int64 [len(indices)]."""
        return torch.tensor([int(self.generator(purpose, step, i).integers(below)) for i in indices])
