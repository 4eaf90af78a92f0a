"""Weights as the bytes of a file: `.safetensors` with metadata in its header, `.bin` as nested dictionaries.

The same weights and metadata give the same bytes (safetensors' own writer puts metadata in random order).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

SUFFIXES = (".safetensors", ".bin")


def content(suffix: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Flat keys → a file's bytes. `.bin` holds tensors alone: `a.b.c` → {"a": {"b.c": …}}, `a` as it is, in order."""
    assert suffix in SUFFIXES
    there = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return _safetensors(there, metadata) if suffix == ".safetensors" else _torch(there)


def _safetensors(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    plain = save(tensors)
    start = 8 + int.from_bytes(plain[:8], "little")
    hashed = {"sshs_model_hash": hashlib.sha256(memoryview(plain)[start:]).hexdigest()}
    entries = {"__metadata__": dict(sorted({**metadata, **hashed}.items())), **json.loads(plain[8:start])}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(plain)[start:]])


def _torch(tensors: dict[str, Tensor]) -> bytes:
    nested: dict[str, Any] = {}
    for key, value in tensors.items():
        first, dot, rest = key.partition(".")
        if dot:
            nested.setdefault(first, {})[rest] = value
        else:
            nested[key] = value
    file = io.BytesIO()
    torch.save(nested, file)
    return file.getvalue()
