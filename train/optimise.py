"""Optimiser, learning-rate schedule and the running mean of weights. Counted in optimiser steps, from 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from crawl.errors import InputError
from train.config import OptimConfig
from train.trained import Trained


def lr_factor(step: int, config: OptimConfig, steps: int) -> float:
    """What the learning rate of step 0 ≤ `step` < `steps` is multiplied by: a linear rise, then the schedule."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - done
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2


class Optimiser:
    """AdamW or Adam, fused, over the groups of what is trained. Raises InputError for an unknown group."""

    def __init__(self, trained: Trained, config: OptimConfig, steps: int) -> None:
        self._config, self._steps, self._names = config, steps, list(trained.names)
        known = [group.name for group in trained.groups]
        for name in config.group_lr:
            if name not in known:
                raise InputError(f"optim.group_lr.{name}: this run has the groups {', '.join(known)}")
        self._lr = {name: config.group_lr.get(name, config.lr) for name in known}
        groups = [{"params": list(group.parameters), "name": group.name} for group in trained.groups]
        if config.name == "adamw":
            self._adam: torch.optim.Optimizer = torch.optim.AdamW(
                groups, config.lr, config.betas, weight_decay=config.weight_decay, fused=True
            )
        else:
            self._adam = torch.optim.Adam(groups, config.lr, config.betas, fused=True)

    def lr(self, step: int) -> dict[str, float]:
        """Each group's learning rate in this step."""
        factor = lr_factor(step, self._config, self._steps)
        return {name: lr * factor for name, lr in self._lr.items()}

    def step(self, step: int) -> None:
        for group, lr in zip(self._adam.param_groups, self.lr(step).values(), strict=True):
            group["lr"] = lr
        self._adam.step()

    def state(self) -> dict[str, Tensor]:
        """`{parameter}#{exp_avg …}` → tensor."""
        states = self._adam.state_dict()["state"]
        return {f"{self._names[i]}#{key}": value for i, state in states.items() for key, value in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        by_name: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, what = key.rpartition("#")
            by_name.setdefault(name, {})[what] = value.clone()  # a mapped file's place in memory is no tensor's
        states = {i: by_name[name] for i, name in enumerate(self._names) if name in by_name}
        self._adam.load_state_dict({"state": states, "param_groups": self._adam.state_dict()["param_groups"]})


class Ema:
    """Running mean of all trained weights, float32: m ← m + (1 − d)(w − m), d = min(decay, (1 + n) / (10 + n)).

    The smaller decay of the first steps keeps random beginnings out of the mean (as in TensorFlow's
    ExponentialMovingAverage).
    """

    def __init__(self, trained: Trained, decay: float) -> None:
        self._names, self._decay = list(trained.names), decay
        self._weights = [p.detach() for p in trained.names.values()]
        self._means = [w.clone() for w in self._weights]

    def update(self, step: int) -> None:
        """After optimiser step `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The mean stands where the weights are, inside."""
        kept = [w.clone() for w in self._weights]
        torch._foreach_copy_(self._weights, self._means)
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, kept)

    def state(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self._means, strict=True))

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, mean in self.state().items():
            mean.copy_(state[name])
