"""A distilled UNet beside the base's, for the Lightning branch: same shape, own weights, the adapter's attention.

From a folder in diffusers' layout, from a file of the UNet's weights, or from a LoRA that is fused into a copy of the
base's. Knows no method.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from crawl.errors import InputError
from shards.encoders.load import frozen, loaded
from train.adapters.adapter import Adapter
from train.adapters.published import check, read_weights
from train.base_models import Base
from train.trained import unet_parameters


def distilled(weights: str, base: Base, adapter: Adapter, revision: str | None = None) -> UNet2DConditionModel:
    """Frozen, where and as exact as the base's UNet, whose attention processors it shares.

    `revision`: commit of the hub repository. Raises InputError.
    """
    unet = _loaded(weights, base, adapter, revision)
    torch.nn.Module.to(unet, base.device, base.dtype)
    unet = frozen(unet)
    unet.set_attn_processor(dict(base.unet.attn_processors))
    return unet


def _loaded(weights: str, base: Base, adapter: Adapter, revision: str | None) -> UNet2DConditionModel:
    what = f"adapter.lightning.weights: {weights}"
    if Path(weights).is_dir():
        inner = {"subfolder": "unet"} if (Path(weights) / "unet").is_dir() else {}
        unet = loaded(lambda: UNet2DConditionModel.from_pretrained(weights, **inner), what)
        check(unet.state_dict(), unet_parameters(base, adapter), what)
        return unet
    path = weights if Path(weights).is_file() else _downloaded(weights, revision, what)
    state = read_weights(path)
    if not any(".lora" in key for key in state):
        check(state, unet_parameters(base, adapter), path)
        return _bare(base, state)
    return _with_lora(_bare(base, unet_parameters(base, adapter)), state, what)


def _bare(base: Base, state: Mapping[str, Tensor]) -> UNet2DConditionModel:
    """The base's UNet with other weights, and no adapter in it."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(base.unet.config)
    unet.load_state_dict({key: value.detach().to(base.dtype).clone() for key, value in state.items()}, assign=True)
    return unet


def _with_lora(unet: UNet2DConditionModel, state: Mapping[str, Tensor], what: str) -> UNet2DConditionModel:
    """Fused, so that it costs nothing."""
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin

    def fuse() -> UNet2DConditionModel:
        lora, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(dict(state), unet_config=unet.config)
        unet.load_lora_adapter(lora, prefix="unet", network_alphas=alphas)
        unet.fuse_lora()
        unet.unload_lora()
        return unet

    return loaded(fuse, what)


def _downloaded(weights: str, revision: str | None, what: str) -> str:
    """`OWNER/NAME/FILE` from the Hugging Face hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    owner, _, rest = weights.partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise InputError(f"{what}: no such folder or file, and not OWNER/NAME/FILE of the hub")
    try:
        return str(hf_hub_download(f"{owner}/{name}", file, revision=revision))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(f"{what}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None
