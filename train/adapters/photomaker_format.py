"""PhotoMaker's published file, in and out: `id_encoder` and `lora_weights`, in this order.

A torch file of two dictionaries (`.bin`), or safetensors with the two names as prefixes. Knows only names.
Source: the released photomaker-v1.bin and -v2.bin and the loader that reads them, which compares the list of keys.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from crawl.errors import InputError
from train.adapters.published import part, read_weights

PARTS = ("id_encoder", "lora_weights")


def flat_keys(id_encoder: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`id_encoder.…`, then `lora_weights.unet.…`, on the CPU; `lora` in diffusers' keys of the UNet."""
    flat = {f"id_encoder.{key}": value for key, value in id_encoder.items()}
    flat |= {f"lora_weights.unet.{key}": value for key, value in lora.items()}
    return {key: value.detach().cpu().contiguous() for key, value in flat.items()}


def read_photomaker(path: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The id encoder's weights and the LoRA's, keys as in the file. Raises InputError naming file and key."""
    state = read_weights(path)
    found = tuple(part(state, f"{name}.") for name in PARTS)
    for name, weights in zip(PARTS, found, strict=True):
        if not weights:
            raise InputError(f"{path}: no {name} in it: not a PhotoMaker file")
    return found[0], found[1]
