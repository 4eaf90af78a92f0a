"""What ComfyUI makes of an IP-Adapter file: it reads the kind off key names and sizes, then builds fixed shapes.

ComfyUI is not a library, so a file is checked by these rules instead of being loaded. They are how its IP-Adapter
nodes behave: context width 2048 means SDXL; `latents` means plus (16 tokens; 1280 wide and 20 heads on SDXL, else 12
heads of 64); LoRA means faceid with 4 tokens; `proj.2` without LoRA means portrait, faceid with 16 tokens; faces are
512 numbers. A layer's number is its place among all attention layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from crawl.errors import InputError
from train.adapters.published import part

_CROSS_LAYERS = {2048: ("SDXL", 70), 768: ("SD1.5", 16)}
_FACE_WIDTH = 512


@dataclass(frozen=True, slots=True)
class Recognised:
    """The adapter that ComfyUI takes the file for."""

    base: str
    kind: str
    tokens: int


def recognise(state: Mapping[str, Tensor], source: str) -> Recognised:
    """Raises InputError for the first weight that is not what ComfyUI will build."""
    image_proj, layers = part(state, "image_proj."), part(state, "ip_adapter.")
    width = _size(layers, "1.to_k_ip.weight", f"{source}: ip_adapter.")[1]
    if width not in _CROSS_LAYERS:
        raise InputError(f"{source}: ip_adapter.1.to_k_ip.weight: ComfyUI has no base of context width {width}")
    base, count = _CROSS_LAYERS[width]
    for index in range(1, 2 * count, 2):
        for side in "kv":
            _size(layers, f"{index}.to_{side}_ip.weight", f"{source}: ip_adapter.")
    kind, tokens = _kind(image_proj, "0.to_q_lora.down.weight" in layers)
    for key, expected in _expected(kind, tokens, width).items():
        given = _size(image_proj, key, f"{source}: image_proj.")
        if len(given) != len(expected) or any(e not in (None, g) for e, g in zip(expected, given, strict=True)):
            shape = ["any" if e is None else e for e in expected]
            raise InputError(f"{source}: image_proj.{key}: shape {given}, ComfyUI builds {shape} for {kind}")
    return Recognised(base, kind, tokens)


def _kind(image_proj: Mapping[str, Tensor], lora: bool) -> tuple[str, int]:
    if lora:
        return "faceid", 4
    if "latents" in image_proj:
        return "plus", 16
    return ("portrait", 16) if "proj.2.weight" in image_proj else ("base", 4)


def _expected(kind: str, tokens: int, width: int) -> dict[str, tuple[int | None, ...]]:
    """Shapes that tell; None: any size."""
    if kind == "base":
        return {"proj.weight": (tokens * width, None), "norm.weight": (width,)}
    if kind in ("faceid", "portrait"):
        hidden = 2 * _FACE_WIDTH
        return {
            "proj.0.weight": (hidden, _FACE_WIDTH),
            "proj.2.weight": (tokens * width, hidden),
            "norm.weight": (width,),
        }
    inner, heads = (1280, 20) if width == 2048 else (width, 12)
    layers = {f"layers.{i}.0.to_q.weight": (64 * heads, inner) for i in range(4)}
    return {"latents": (1, tokens, inner), "proj_in.weight": (inner, None), "proj_out.weight": (width, inner), **layers}


def _size(state: Mapping[str, Tensor], key: str, where: str) -> list[int]:
    if key not in state:
        raise InputError(f"{where}{key}: is missing")
    return list(state[key].shape)
