"""One adapter, one file, one class: what is special about a method. `load_adapter` finds it by `kind`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.adapters.adapter import Adapter
    from train.adapters.settings import AdapterSettings
    from train.base_models import Base

ADAPTERS = {
    "bolid": "train.adapters.bolid:Bolid",
    "bolid_latent": "train.adapters.bolid_latent:BolidLatent",
    "none": "train.adapters.none:NoAdapter",
    "dreambooth": "train.adapters.dreambooth:DreamBooth",
    "ip_adapter": "train.adapters.ip_adapter:IpAdapter",
    "photomaker": "train.adapters.photomaker:PhotoMaker",
    "split_prompt": "train.adapters.split_prompt:SplitPrompt",
    "pulid": "train.adapters.pulid:Pulid",
    "textual_inversion": "train.adapters.textual_inversion:TextualInversion",
}
"""kind → module:class."""


def adapter_class(kind: str) -> type[Adapter]:
    module, _, name = ADAPTERS[kind].partition(":")
    found: type[Adapter] = getattr(importlib.import_module(module), name)
    return found


def load_adapter(settings: AdapterSettings, base: Base) -> Adapter:
    """The adapter, made for this base and installed into its UNet."""
    return adapter_class(settings.kind)(settings, base)
