"""Who can serve as target and as reference: identity groups, the holdout, leave-one-out, the order of epochs.

Photos are positions in the dataset's index. Knows nothing of what is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shards.format.index import Index
from train.data.draws import Draws

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """One person."""

    identity: str
    training: Positions
    """In order of position; with references two or more: one to restore, one to restore it from."""
    held_out: Positions
    """Never trained on; in an order of their own."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A target and the references it is to be restored from."""

    target: int
    references: tuple[int, ...]
    identity: str


class Groups:
    """Every choice of photos, as a function of draws and a counter."""

    def __init__(
        self,
        index: Index,
        holdout: float,
        references: tuple[int, int],
        draws: Draws,
        least: int = 2,
        without: Collection[int] = (),
    ) -> None:
        """`least`: training photos of a person; `without`: positions that cannot be read."""
        self._least, self._most = references
        self._draws = draws
        lost = np.array(sorted(without), np.int64)
        usable = {who: np.setdiff1d(np.arange(p.start, p.stop), lost) for who, p in index.identities.items()}
        self.groups = [split(index, who, p, holdout, least) for who, p in usable.items() if len(p) >= least]
        self.alone = sum(len(found) < least for found in usable.values())
        """People with too few photos: one alone cannot be restored from others."""
        self._targets = np.concatenate([np.empty(0, np.int64), *(group.training for group in self.groups)])
        self._owners = np.repeat(np.arange(len(self.groups)), [len(group.training) for group in self.groups])
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        """Targets of an epoch."""
        return len(self._targets)

    def training(self, index: int) -> Chosen:
        """Of a global sample index: each epoch takes every target once, in an order of its own."""
        epoch, place = divmod(index, len(self))
        number = self._order(epoch)[place]
        return self._chosen(self.groups[self._owners[number]], int(self._targets[number]), "references", index)

    def held_out(self, count: int) -> list[Chosen]:
        """People in turn, then their next photos; those without a held-out photo show one of their training photos."""
        chosen = []
        for index in range(count):
            turn, person = divmod(index, len(self.groups))
            group = self.groups[person]
            photos = group.held_out if len(group.held_out) else group.training
            chosen.append(self._chosen(group, int(photos[turn % len(photos)]), "held-out references", index))
        return chosen

    def photos(self, count: int) -> list[int]:
        """Training photos, people in turn, none twice."""
        longest = max(len(group.training) for group in self.groups)
        in_turn = (group.training[i] for i in range(longest) for group in self.groups if i < len(group.training))
        return [int(position) for position, _ in zip(in_turn, range(count), strict=False)]

    def _chosen(self, group: Group, target: int, purpose: str, index: int) -> Chosen:
        """References without replacement from the person's other training photos; fewer where there are fewer."""
        draw = self._draws.generator(purpose, index)
        others = group.training[group.training != target]
        wanted = int(draw.integers(self._least, self._most, endpoint=True))
        picked = draw.choice(others, min(wanted, len(others)), replace=False)
        return Chosen(target, tuple(int(position) for position in picked), group.identity)

    def _shuffled(self, epoch: int) -> Positions:
        return self._draws.generator("order", epoch).permutation(len(self))


def kept_back(identity: str, share: float) -> bool:
    """Whether a person is kept from training altogether: by a hash of the identity key alone."""
    number = int.from_bytes(hashlib.sha256(f"holdout person {identity}".encode()).digest()[:8], "big")
    return number < share * 2**64


def split(index: Index, identity: str, positions: Positions, holdout: float, least: int) -> Group:
    """By a hash of the keys alone: another seed or another person changes nothing. `least` stay for training."""
    by_hash = sorted((hashlib.sha256(b"holdout " + index.keys[p]).digest(), int(p)) for p in positions)
    count = min(round(holdout * len(positions)), len(positions) - least)
    held = np.array([position for _, position in by_hash[:count]], np.int64)
    return Group(identity, np.setdiff1d(positions, held), held)
