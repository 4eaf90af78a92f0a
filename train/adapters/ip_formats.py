"""IP-Adapter's published files: their keys, what each reader can take, and weights in and out of them.

`image_proj.*` and `ip_adapter.{i}.…`, where i is the place of the layer among all attention processors: to_k_ip and
to_v_ip at the odd i (the mid block's last), LoRA at every i. Knows files' keys, not how files are read or written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crawl.errors import InputError
from train.adapters.lora import from_numbered_keys, numbered_keys
from train.adapters.published import check, load_into, part
from train.adapters.settings import IpAdapterSettings

if TYPE_CHECKING:
    from train.adapters.ip_adapter import IpAdapter

FORMATS = ("diffusers", "comfyui")
_RAW = {"image_proj_model": "image_proj", "adapter_modules": "ip_adapter"}
"""How IP-Adapter's own training script names what it saves."""


def refusal(settings: IpAdapterSettings, format: str) -> str | None:
    """Which setting keeps weights out of `format`; None: nothing does."""
    if format == "native":
        return None
    if format not in FORMATS:
        return f"adapter.kind: ip_adapter has no form for {format}"
    limits = _diffusers_limits(settings) if format == "diffusers" else _comfyui_limits(settings)
    return next((f"adapter.{why}" for kept, why in (*_plain_limits(settings), *limits) if not kept), None)


def _plain_limits(settings: IpAdapterSettings) -> Iterator[tuple[bool, str]]:
    """Both readers put references' tokens side by side, through one pair of matrices, and drop to zeros."""
    for side, how in (("keys", settings.keys), ("values", settings.values)):
        yield how == "concat", f"{side}: {how}: published files know only concat"
    yield not settings.per_slot, "per_slot: true: published files hold one K and one V a layer"
    yield settings.dropped == "zeros", "dropped: absent: guidance in published loaders goes by tokens of zeros"
    if settings.encoder == "plus":
        yield settings.depth == 4, f"depth: {settings.depth}: loaders build exactly 4 layers"


def _diffusers_limits(settings: IpAdapterSettings) -> Iterator[tuple[bool, str]]:
    tokens = settings.token_count
    if settings.encoder == "base":
        yield tokens == 4, f"tokens: {tokens}: diffusers loads exactly 4 tokens of encoder base"
    if settings.encoder == "faceid":
        yield tokens in (4, 16), f"tokens: {tokens}: diffusers loads 4 or 16 tokens of encoder faceid"


def _comfyui_limits(settings: IpAdapterSettings) -> Iterator[tuple[bool, str]]:
    """ComfyUI reads the kind of adapter off the file, by these rules of thumb."""
    tokens, lora = settings.token_count, settings.lora is not None
    yield settings.encoder == "faceid" or not lora, "lora: ComfyUI takes any file with LoRA for faceid"
    expected = {"base": 4, "plus": 16, "faceid": 4 if lora else 16}[settings.encoder]
    what = settings.encoder + ("" if settings.encoder != "faceid" else " with LoRA" if lora else " without LoRA")
    yield tokens == expected, f"tokens: {tokens}: ComfyUI takes encoder {what} for {expected} tokens"


def published(adapter: IpAdapter) -> dict[str, Tensor]:
    """Flat keys → float32. λ is multiplied into to_v_ip, so that 1 is what was trained with."""
    state = {f"image_proj.{key}": value for key, value in adapter.image_proj.state_dict().items()}
    for key, matrix in _matrices(adapter).items():
        state[f"ip_adapter.{key}"] = matrix * adapter.settings.scale if "to_v_ip" in key else matrix
    if adapter.lora is not None:
        numbered = numbered_keys(adapter.lora.state, adapter.base.processor_names())
        state |= {f"ip_adapter.{key}": value for key, value in numbered.items()}
    return {key: value.detach().float().clone() for key, value in state.items()}


@torch.no_grad()
def load(adapter: IpAdapter, state: Mapping[str, Tensor], source: str) -> None:
    """The inverse of `published`; matrices a slot all begin alike. LoRA may be absent. Raises InputError."""
    state = _plain(state, source)
    layers = part(state, "ip_adapter.")
    updates = from_numbered_keys(layers, adapter.base.processor_names(), source)
    given = {key: value for key, value in layers.items() if "_lora." not in key}
    own = _matrices(adapter)
    check(given, {key: w if w.ndim == 2 else w[0] for key, w in own.items()}, source, "ip_adapter.")
    if updates and adapter.lora is None:
        rank = min(len(value) for key, value in updates.items() if key.endswith("down.weight"))
        raise InputError(f"{source}: holds LoRA: set adapter.lora.rank: {rank}")
    load_into(adapter.image_proj, part(state, "image_proj."), source, "image_proj.")
    if adapter.lora is not None and updates:
        adapter.lora.load(updates, source)
    for key, matrix in own.items():
        matrix.copy_(given[key] / adapter.settings.scale if "to_v_ip" in key else given[key])


def _matrices(adapter: IpAdapter) -> dict[str, Tensor]:
    """Published key → W′ [D, C] of a layer, or [N, D, C] with a matrix a slot."""
    return {
        f"{index}.to_{side}_ip.weight": layer.get_parameter(f"to_{side}.weight")
        for index, layer in adapter.ip_adapter.items()
        for side in "kv"
    }


def _plain(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The training script's names as those of published files, without the UNet that it saves too."""
    plain = {}
    for key, value in state.items():
        prefix = key.split(".")[0]
        if prefix in ("image_proj", "ip_adapter", *_RAW):
            plain[_RAW.get(prefix, prefix) + key.removeprefix(prefix)] = value
        elif prefix != "unet":
            raise InputError(f"{source}: {key}: is unknown here; IP-Adapter's files hold image_proj and ip_adapter")
    return plain
