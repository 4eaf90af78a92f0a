"""`python -m train.reference`: docs/training-configuration.md, written from the settings models themselves."""

from __future__ import annotations

import typing

from pydantic import BaseModel

from shards.reference import section, sections
from train.adapters.settings import AdapterSettings, LightningSettings, LoraSettings
from train.config import TrainRun

_HEAD = """# Training configuration

One YAML file a run; `key=value` overrides with dotted keys (`optim.lr=3e-5`). Unknown keys are errors. The
resolved configuration, every default spelled out, is in the run's folder as `config.resolved.yaml`. `adapter` holds the
keys of one method, which `adapter.kind` names. [training.md](training.md) says what a run does.
This page is made by `python -m train.reference > docs/training-configuration.md`.
"""


def reference() -> str:
    """The page, as Markdown: one table a section, and one a method."""
    adapters: tuple[type[BaseModel], ...] = typing.get_args(typing.get_args(AdapterSettings)[0])
    tables = (
        section(f"adapter.kind: {model.model_fields['kind'].default}", "adapter.", model, "kind") for model in adapters
    )
    nested = (("adapter.lora", LoraSettings), ("adapter.lightning", LightningSettings))
    within = (section(name, f"{name}.", model) for name, model in nested)
    return "\n".join([_HEAD, *sections("", TrainRun), *tables, *within])


if __name__ == "__main__":
    print(reference())
