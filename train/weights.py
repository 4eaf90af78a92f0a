"""All weights that a run changes, under one set of names: `adapter.…`, `unet.…`, `vae.…`. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crawl.errors import InputError
from train.adapters.adapter import Adapter
from train.base_models import Base
from train.trained import unet_parameters

Weights = Mapping[str, Tensor]
SCALING = "vae#scaling_factor"
"""Where a fitted VAE's scaling factor stands among its weights."""


def collect(base: Base, adapter: Adapter, parts: frozenset[str]) -> dict[str, Tensor]:
    """The adapter's state and those of the base's `parts` ("unet", "vae") that are not as their files say."""
    found = {f"adapter.{key}": value for key, value in adapter.state_dict().items()}
    if "unet" in parts:
        found |= {f"unet.{key}": value.detach() for key, value in unet_parameters(base, adapter).items()}
    if "vae" in parts:
        found |= {f"vae.{key}": value for key, value in base.vae.model.state_dict().items()}
        found[SCALING] = torch.tensor(base.vae.model.config.scaling_factor, dtype=torch.float64)
    return found


def parts_of(weights: Weights) -> frozenset[str]:
    """Which parts of the base these weights hold."""
    return frozenset(part for part in ("unet", "vae") if any(key.startswith(f"{part}.") for key in weights))


def give_base(base: Base, weights: Weights, source: str) -> None:
    """Before any adapter is installed. Raises InputError naming `source` and the key at fault."""
    parts = parts_of(weights)
    if "unet" in parts:
        _load(base.unet, _under("unet.", weights), source)
    if "vae" in parts:
        _load(base.vae.model, _under("vae.", weights), source)
        base.vae.model.register_to_config(scaling_factor=float(weights[SCALING]))


def give_adapter(adapter: Adapter, weights: Weights, source: str, partly: bool = False) -> None:
    """`partly`, for another run's: what the adapter has more stays as it began, and shapes may be fitted.

    Raises InputError.
    """
    state = _under("adapter.", weights)
    _load(adapter, adapter.fitted(state) if partly else state, source, partly)


def _under(prefix: str, weights: Weights) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _load(module: nn.Module, state: dict[str, Tensor], source: str, partly: bool = False) -> None:
    own = module.state_dict()
    for key, value in state.items():
        if key not in own:
            raise InputError(f"{source}: {key}: nothing of this name here; the run file is not the one that made it")
        if value.shape != own[key].shape:
            raise InputError(f"{source}: {key}: shape {list(value.shape)}, here {list(own[key].shape)}")
    if not partly and (missing := own.keys() - state.keys()):
        raise InputError(f"{source}: {min(missing)}: is missing")
    module.load_state_dict(state, strict=False)
