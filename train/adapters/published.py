"""Published weight files in: `.safetensors`, or torch files of nested dictionaries, from which nothing is executed.

Every file becomes flat keys, joined by dots. Knows no method's keys: a method asks for what it needs, and whatever
is missing, too much or of another shape is one line naming file and key.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crawl.errors import InputError, one_line


def read_weights(path: str) -> dict[str, Tensor]:
    """Flat key → tensor on the CPU, in the file's order. Raises InputError."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.endswith(".safetensors"):
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise InputError(f"{path}: not a weights file: {one_line(error)[:200]}") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds {type(content).__name__}, expected a dictionary of tensors")
    return dict(_flat(content, path, ""))


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What lies under `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def check(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str, prefix: str = "") -> None:
    """Same keys, same shapes; else InputError naming `source` and `prefix` + key."""
    for key in sorted(given.keys() ^ expected.keys()):
        raise InputError(f"{source}: {prefix}{key}: {'is missing' if key in expected else 'is unknown here'}")
    for key, value in given.items():
        if value.shape != expected[key].shape:
            shapes = f"shape {list(value.shape)}, expected {list(expected[key].shape)}"
            raise InputError(f"{source}: {prefix}{key}: {shapes}")


@torch.no_grad()
def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str, prefix: str = "") -> None:
    """Copy `state` into all parameters and buffers of `module`, whose keys it must hold exactly. Raises InputError."""
    own = module.state_dict()
    check(state, own, source, prefix)
    for key, value in state.items():
        own[key].copy_(value)


def _flat(content: Mapping[object, object], path: str, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, path, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        else:
            raise InputError(f"{path}: {prefix}{key}: {type(value).__name__}, expected a tensor")
