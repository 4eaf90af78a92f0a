"""LoRA on q, k, v and out of every attention layer of the UNet: h = W x + (alpha / rank) · up(down(x)).

Knows the three spellings of published LoRA keys and turns each into diffusers' own; knows no method that uses it.
Sources: LoRA, arXiv 2106.09685; the key spellings of diffusers, peft and IP-Adapter-FaceID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from crawl.errors import InputError
from train.adapters.published import check
from train.adapters.settings import LoraSettings
from train.base_models import Base

_TARGETS = r".*\.attn[12]\.to_(q|k|v|out\.0)"
"""Only the layers' own projections: streams inside a processor have a `to_k` too."""
_SPELLINGS = re.compile(
    r"(?:unet\.|base_model\.model\.)*(?P<attention>.+\.attn[12])(?:\.processor)?\.to_(?P<projection>[qkv]|out)(?:\.0)?"
    r"(?:_lora|\.lora)[._](?P<side>down|up|A|B)(?:\.default)?\.weight"
)
_NUMBERED = re.compile(r"(?P<index>\d+)\.to_(?P<projection>[qkv]|out)_lora\.(?P<side>down|up)\.weight")
_SIDES = {"A": "down", "B": "up"}


class LoraLayers(nn.Module):
    """down [rank, in] and up [out, rank] of every projection, float32; the modules themselves live in the UNet.

    Parameters are named as in diffusers: `{module of the UNet}.lora.{down,up}.weight`.
    """

    def __init__(self, layers: Mapping[str, tuple[nn.Module, nn.Module]], scale: float) -> None:
        super().__init__()
        self.scale = scale
        """alpha / rank."""
        for name, (down, up) in layers.items():
            _attach(self, f"{name}.lora.down", down)
            _attach(self, f"{name}.lora.up", up)

    @property
    def state(self) -> dict[str, Tensor]:
        """Diffusers' keys → float32 on the CPU. Published files store no alpha: the scale is multiplied into `up`."""
        return {
            key: (value.detach() * self.scale if key.endswith(".up.weight") else value.detach()).cpu().clone()
            for key, value in self.named_parameters()
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], source: str = "LoRA weights") -> None:
        """The inverse of `state`, from any spelling. Raises InputError naming `source` and the key at fault."""
        given, own = diffusers_keys(state, source), dict(self.named_parameters())
        check(given, own, source)
        for key, value in given.items():
            own[key].copy_(value / self.scale if key.endswith(".up.weight") else value)


def add_lora(base: Base, settings: LoraSettings, seed: int) -> LoraLayers:
    """Put trainable LoRA into the base's UNet; it changes nothing until trained (up is zero).

    Gaussian: down ~ N(0, 1/rank²), as diffusers, PhotoMaker and FaceID begin.
    """
    alpha = settings.rank if settings.alpha is None else settings.alpha
    trained = [p for p in base.unet.parameters() if p.requires_grad]
    base.unet.add_adapter(LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=_TARGETS))
    for parameter in trained:  # peft freezes everything but its own
        parameter.requires_grad_(True)
    layers = {
        name: (module.lora_A["default"].float(), module.lora_B["default"].float())
        for name, module in base.unet.named_modules()
        if hasattr(module, "lora_A")
    }
    generator = torch.Generator().manual_seed(seed)
    for down, up in layers.values():
        _begin(down, up, settings, generator)
    return LoraLayers(layers, alpha / settings.rank)


def diffusers_keys(state: Mapping[str, Tensor], source: str = "LoRA weights") -> dict[str, Tensor]:
    """Keys of any spelling (`to_q.lora.down`, `to_q.lora_A`, `processor.to_q_lora.down`) in diffusers' own."""
    named = {}
    for key, value in state.items():
        match = _SPELLINGS.fullmatch(key)
        if match is None:
            raise InputError(f"{source}: {key}: not a LoRA weight of an attention projection")
        attention, projection, side = match["attention"], match["projection"], match["side"]
        named[f"{attention}.{_projection(projection)}.lora.{_SIDES.get(side, side)}.weight"] = value
    return named


def numbered_keys(state: Mapping[str, Tensor], processors: Sequence[str]) -> dict[str, Tensor]:
    """Diffusers' keys in IP-Adapter-FaceID's: `{i}.to_{q,k,v,out}_lora.{down,up}.weight`, i of all `processors`."""
    index = {name.removesuffix(".processor"): i for i, name in enumerate(processors)}
    numbered = {}
    for key, value in diffusers_keys(state).items():
        match = _SPELLINGS.fullmatch(key)
        assert match is not None
        numbered[f"{index[match['attention']]}.to_{match['projection']}_lora.{match['side']}.weight"] = value
    return numbered


def from_numbered_keys(
    state: Mapping[str, Tensor], processors: Sequence[str], source: str = "LoRA weights"
) -> dict[str, Tensor]:
    """The inverse of `numbered_keys`; keys that are no LoRA (`to_k_ip`) are left out. Raises InputError."""
    named = {}
    for key, value in state.items():
        match = _NUMBERED.fullmatch(key)
        if match is None:
            continue
        if int(match["index"]) >= len(processors):
            raise InputError(f"{source}: {key}: this UNet has {len(processors)} attention layers")
        attention = processors[int(match["index"])].removesuffix(".processor")
        named[f"{attention}.{_projection(match['projection'])}.lora.{match['side']}.weight"] = value
    return named


def _projection(name: str) -> str:
    return "to_out.0" if name == "out" else f"to_{name}"


def _begin(down: Any, up: Any, settings: LoraSettings, generator: torch.Generator) -> None:
    size = down.weight.shape
    if settings.init == "gaussian":
        drawn = torch.randn(size, generator=generator) / settings.rank
    else:
        drawn = (2 * torch.rand(size, generator=generator) - 1) / size[1] ** 0.5
    down.weight.data.copy_(drawn)
    up.weight.data.zero_()


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
