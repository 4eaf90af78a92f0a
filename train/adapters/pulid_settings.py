"""Settings of PuLID."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crawl.settings import Settings
from train.adapters.any_settings import AnyAdapter
from train.commits import with_commits


class LightningSettings(Settings):
    """PuLID's second branch: a few steps from pure noise to a picture, on which identity and alignment are judged.

    Runs where one of the three weights is above 0.
    """

    id_weight: float = Field(0.0, ge=0, description="λ of 1 − cos(φ(references), φ(picture)); the paper's is 1.")
    semantic_weight: float = Field(
        0.0, ge=0, description="λ of the semantic alignment with the path without identity; the paper's is 0.6."
    )
    layout_weight: float = Field(0.0, ge=0, description="λ of the layout alignment; the paper's is 0.1.")
    steps: int = Field(4, ge=1, le=50, description="Trailing timesteps: 999, 749, 499, 249.")
    backprop_steps: int = Field(4, ge=1, description="The last so many steps pass gradients; fewer take less memory.")
    weights: str | None = Field(
        None,
        description="Distilled UNet: a folder in diffusers' layout, a file of its weights or of a LoRA, or "
        "OWNER/NAME/FILE on the Hugging Face hub; null: the base itself, as on `tiny`.",
    )
    revision: str | None = Field(
        None, description="Commit of the hub repository; default: a pinned one for known names, else the newest."
    )
    gradient_checkpointing: bool = Field(
        False, description="Keep the activations of no step and of no decoder: about half as much again to compute."
    )
    id_prompt: str = Field("portrait, color, cinematic", description="Prompt of the pictures that `id_weight` judges.")
    prompts: tuple[str, ...] = Field(
        (), description="Prompts of the pictures that alignment judges, one drawn a sample; empty: `id_prompt`'s own."
    )
    recogniser: Literal["face", "random"] = Field(
        "face", description="φ: the network of `base.face`, or an untrained one that knows no face, for trials."
    )
    faces: Literal["detected", "centre"] = Field(
        "detected", description="Where the face is: where the detector of `base.face` sees it, or in the middle."
    )

    @property
    def is_used(self) -> bool:
        return self.id_weight > 0 or self.aligns

    @property
    def aligns(self) -> bool:
        return self.semantic_weight > 0 or self.layout_weight > 0

    @model_validator(mode="before")
    @classmethod
    def _known_names_have_a_commit(cls, given: object) -> object:
        return with_commits(given, {"weights": "revision"})

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> LightningSettings:
        if self.backprop_steps > self.steps:
            raise ValueError(f"backprop_steps: {self.backprop_steps} is more than steps ({self.steps})")
        return self


class PulidSettings(AnyAdapter):
    """PuLID (arXiv 2404.16022): a face vector and CLIP states as tokens of an attention of their own."""

    kind: Literal["pulid"] = "pulid"
    version: Literal["v1", "v1.1"] = Field("v1.1", description="Encoder: 10 tokens by MLPs, or 32 by a Perceiver.")
    mode: Literal["plain", "fidelity", "style"] = Field(
        "plain",
        description="`fidelity`: 8 zero tokens, and what lies along the text's attention counts by the share of the "
        "identity's own; `style`: 16, and it does not count at all. They can be chosen when pictures are made.",
    )
    max_references: int = Field(4, ge=1, le=16, description="Most references at a time, their tokens side by side.")
    face_norm: float = Field(
        1.0, gt=0, description="Length of the face embeddings; the released weights know raw ones (≈ 20)."
    )
    scale: float = Field(1.0, ge=0, description="λ of the identity attention.")
    lightning: LightningSettings = LightningSettings()
