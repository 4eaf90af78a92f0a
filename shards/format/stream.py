"""An iteration over a dataset that can be stopped anywhere, saved as JSON, and gone on with exactly there.

Knows the order of things, not the things: what a unit is and how it is read is told by `shards.read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from shards.format.tar import ShardError

Item = TypeVar("Item")
OnBadShard = Literal["raise", "skip"]
Skip = Callable[[ShardError, int], None]
"""Told that so many samples are left out because of that error; raises it unless told to skip."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Samples of a bad shard that an iteration did not give."""

    shard: str
    samples: int
    reason: str


def order_of(count: int, shuffle_seed: int | None, rank: int, world_size: int) -> npt.NDArray[np.int64]:
    """The units of one reader, of `count` in all: together the `world_size` readers have each exactly once.

    Parts are contiguous and differ in length by at most one. The shuffle is of the whole, before parting, by
    NumPy's frozen `RandomState`: the same on every version and machine.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0 … world_size − 1: rank is {rank}, world_size {world_size}")
    part = slice(count * rank // world_size, count * (rank + 1) // world_size)
    if shuffle_seed is None:
        return np.arange(part.start, part.stop, dtype=np.int64)
    return np.random.RandomState(shuffle_seed).permutation(count)[part].astype(np.int64)


class Stream(Iterator[Item], Generic[Item]):
    """One epoch of one reader. `state_dict()` may be taken between any two items."""

    def __init__(
        self,
        units: npt.NDArray[np.int64],
        read: Callable[[int, Skip], Item | None],
        settings: dict[str, Any],
        on_bad_shard: OnBadShard,
    ) -> None:
        self._units = units
        self._read = read
        self._settings = settings
        self._on_bad_shard = on_bad_shard
        self._position = 0
        self._skipped: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        """Units of the whole epoch, of this reader, before any is skipped."""
        return len(self._units)

    def __next__(self) -> Item:
        """Raises ShardError, without going on, for a bad shard unless `on_bad_shard="skip"`."""
        while self._position < len(self._units):
            item = self._read(int(self._units[self._position]), self._skip)
            self._position += 1
            if item is not None:
                return item
        raise StopIteration

    @property
    def skipped(self) -> list[Skipped]:
        """What was left out so far: samples given + samples skipped = samples passed."""
        return [Skipped(shard, samples, reason) for shard, (samples, reason) in self._skipped.items()]

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands, as JSON can hold it."""
        skipped = {shard: list(counted) for shard, counted in self._skipped.items()}
        return {**self._settings, "position": self._position, "skipped": skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where that state was taken.

        Raises ValueError naming what differs when it is of another dataset, order or part.
        """
        for name, mine in self._settings.items():
            if state.get(name) != mine:
                raise ValueError(f"state_dict: {name} is {state.get(name)!r}, of this stream {mine!r}")
        if not 0 <= state["position"] <= len(self._units):
            raise ValueError(f"state_dict: position {state['position']} is not in 0 … {len(self._units)}")
        self._position = state["position"]
        self._skipped = {shard: (samples, reason) for shard, (samples, reason) in state["skipped"].items()}

    def _skip(self, error: ShardError, samples: int) -> None:
        if self._on_bad_shard == "raise":
            raise error
        before, _ = self._skipped.get(error.shard, (0, ""))
        self._skipped[error.shard] = (before + samples, error.reason)
