"""Which base model's encoders. No torch here, so that a run file is checked before anything loads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crawl.settings import Settings

Family = Literal["tiny", "sdxl", "sd15"]


class BaseConfig(Settings):
    """A diffusion base: by hub name or local folder in diffusers' layout, or `tiny`, which needs no files."""

    family: Family = Field("tiny", description="`sdxl`, `sd15`, or `tiny`: SDXL's classes, small, random, no network.")
    weights: str | None = Field(None, description="Hub name or folder of the pipeline; `tiny` has none.")
    revision: str | None = Field(None, description="Commit of the hub repository; pin it.")
    variant: str | None = Field(None, description="Weight file variant, such as `fp16`.")
    vae: str | None = Field(None, description="Another VAE than the pipeline's, such as the fp16-safe one of SDXL.")
    clip: str | None = Field(
        None, description="CLIP vision tower for reference photos: hub name or folder. `tiny` makes its own."
    )
    clip_revision: str | None = Field(None, description="Commit of the vision tower's repository.")
    face: Literal["embedded", "open", "insightface"] = Field(
        "embedded", description="Face embedder (filter.models) where an adapter conditions on one."
    )
    insightface_pack: str = Field("buffalo_l", description="Pack of `face: insightface`.")
    accept_licence: str | None = Field(None, description="Names the licence accepted for `face: insightface`.")
    seed: int = Field(0, ge=0, description="Of `tiny`'s random weights.")

    @model_validator(mode="after")
    def _weights_are_named(self) -> BaseConfig:
        if (self.family == "tiny") != (self.weights is None):
            raise ValueError("weights: name the pipeline's folder or hub name" if self.weights is None else
                             "weights: tiny has none; name a family")  # fmt: skip
        return self
