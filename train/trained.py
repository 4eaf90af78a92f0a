"""What a run trains: named parameters in groups, and one flat buffer that holds all their gradients.

One buffer makes clearing, summing over processes, the norm and clipping a single operation each. A parameter
that a step did not use has a zero gradient, in every process alike. Knows no optimiser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.adapters.adapter import Adapter, Group
from train.base_models import Base


@dataclass(frozen=True, eq=False)
class Trained:
    """float32 parameters, each in one group; `gradients` is all their `grad`s, end to end."""

    groups: tuple[Group, ...]
    names: Mapping[str, nn.Parameter]
    gradients: Tensor

    def clear(self) -> None:
        self.gradients.zero_()

    def clip(self, norm: float, max_norm: float | None) -> None:
        """Scale all gradients so that their norm, which is `norm`, is at most `max_norm`."""
        if max_norm is not None and norm > max_norm:
            self.gradients.mul_(max_norm / norm)


def trained(base: Base, adapter: Adapter, train_unet: bool) -> Trained:
    """The adapter's groups, and the rest of the UNet as group `unet` where it is trained too."""
    own = {f"adapter.{name}": p for name, p in adapter.named_parameters()}
    groups = adapter.groups()
    if train_unet:
        unet = unet_parameters(base, adapter)
        for parameter in unet.values():
            parameter.requires_grad_(True)
        groups = [*groups, Group("unet", tuple(unet.values()))]
        own |= {f"unet.{name}": p for name, p in unet.items()}
    name_of = {id(p): name for name, p in own.items()}
    names = {name_of[id(p)]: p for group in groups for p in group.parameters}
    assert len(names) == sum(len(group.parameters) for group in groups), "a parameter in two groups"
    assert all(p.requires_grad and p.dtype == torch.float32 for p in names.values())
    return Trained(tuple(groups), names, _flat_gradients(names.values()))


def unet_parameters(base: Base, adapter: Adapter) -> dict[str, nn.Parameter]:
    """The base's own parameters, named as before any adapter was installed (peft wraps layers it adds LoRA to)."""
    inside = {id(p) for p in adapter.parameters()}
    return {name.replace(".base_layer.", "."): p for name, p in base.unet.named_parameters() if id(p) not in inside}


def _flat_gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """A zero buffer; each parameter's `grad` becomes a view of its part, laid out as the parameter is."""
    parameters = list(parameters)
    device = parameters[0].device if parameters else None
    flat = torch.zeros(sum(p.numel() for p in parameters), device=device)
    at = 0
    for parameter in parameters:
        piece = flat[at : at + parameter.numel()]
        parameter.grad = piece.as_strided(parameter.shape, parameter.stride(), piece.storage_offset())
        at += parameter.numel()
    return flat
