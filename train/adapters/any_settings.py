"""What the settings of every adapter have in common. No torch here: a run file is checked before anything loads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crawl.settings import Settings

Aggregation = Literal["concat", "mean", "max", "linear", "attention", "self_attention", "weighted"]


class LoraSettings(Settings):
    """Low-rank updates of the UNet's q, k, v and out projections (arXiv 2106.09685)."""

    rank: int = Field(64, ge=1, description="Rank of the update.")
    alpha: float | None = Field(None, gt=0, description="Scale is alpha / rank; default: alpha = rank.")
    init: Literal["gaussian", "kaiming"] = Field(
        "gaussian", description="Of the down matrix: N(0, 1/rank²), or U(±1/√in); the up matrix is zero."
    )


class AnyAdapter(Settings):
    """What all adapters have in common."""

    seed: int = Field(0, ge=0, description="Of randomly initialised parts.")
    weights: str | None = Field(
        None, description="Published weights of this method to begin from (.bin, .safetensors)."
    )
