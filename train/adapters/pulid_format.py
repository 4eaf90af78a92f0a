"""PuLID's published file: its keys, and weights in and out of them. Knows names, not how files are read or written.

`id_adapter.…` and `id_adapter_attn_layers.{i}.id_to_k.weight`, `id_to_v.weight`, where i is the place of the layer
among all attention processors (the odd ones; the mid block's last). Another spelling of the same, which PuLID nodes
for ComfyUI read, is `image_proj.…` and `ip_adapter.{i}.to_k_ip.weight`. Source: ToTheBeginning/PuLID (names).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from crawl.errors import InputError
from train.adapters.published import load_into, part

ENCODER, LAYERS = "id_adapter", "id_adapter_attn_layers"
_OTHER = {"image_proj": ENCODER, "ip_adapter": LAYERS}


def published(encoder: nn.Module, layers: nn.Module, scale: float) -> dict[str, Tensor]:
    """Flat keys → float32 on the CPU. λ is multiplied into `id_to_v`, so that 1 is what was trained with."""
    state = {f"{ENCODER}.{key}": value for key, value in encoder.state_dict().items()}
    for key, matrix in layers.state_dict().items():
        state[f"{LAYERS}.{key}"] = matrix * scale if "id_to_v" in key else matrix
    return {key: value.detach().float().cpu().clone() for key, value in state.items()}


def load(encoder: nn.Module, layers: nn.Module, scale: float, state: Mapping[str, Tensor], source: str) -> None:
    """The inverse of `published`, from either spelling. Raises InputError naming file and key."""
    plain = {_plain(key): value for key, value in state.items()}
    for key in plain:
        if not key.startswith((f"{ENCODER}.", f"{LAYERS}.")):
            raise InputError(f"{source}: {key}: is unknown here; PuLID's files hold {ENCODER} and {LAYERS}")
    matrices = {
        key: value / scale if "id_to_v" in key else value for key, value in part(plain, f"{LAYERS}.").items()
    }  # fmt: skip
    load_into(encoder, part(plain, f"{ENCODER}."), source, f"{ENCODER}.")
    load_into(layers, matrices, source, f"{LAYERS}.")


def _plain(key: str) -> str:
    first, _, rest = key.partition(".")
    if first not in _OTHER:
        return key
    return f"{_OTHER[first]}.{rest.replace('to_k_ip', 'id_to_k').replace('to_v_ip', 'id_to_v')}"
