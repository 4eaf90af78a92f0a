"""Settings of the baselines that are trained for one person: DreamBooth, Textual Inversion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from train.adapters.any_settings import AnyAdapter, LoraSettings


class TuningSettings(AnyAdapter):
    """A method that is trained anew for each person, and knows them by a word."""

    prompt: str | None = Field(
        "a photo of a {person}",
        description="Trained with; {person} is the person's word beside or for the class word; null: their captions.",
    )

    @model_validator(mode="after")
    def _names_the_person(self) -> TuningSettings:
        if self.prompt is not None and self.prompt.count("{person}") != 1:
            raise ValueError("prompt: {person} once")
        return self


class DreamBoothSettings(TuningSettings):
    """DreamBooth (arXiv 2208.12242): the UNet, or LoRA on it, learns a rare word's person, beside its class."""

    kind: Literal["dreambooth"] = "dreambooth"
    identifier: str = Field("sks", pattern=r"^\S+$", description="A rare word that stands for the person.")
    lora: LoraSettings | None = Field(
        LoraSettings(rank=16), description="null: the UNet itself is trained (loop.train_unet), as in the paper."
    )
    prior_weight: float = Field(1.0, ge=0, description="λ of prior preservation; 0: none.")
    prior_images: int = Field(
        200, ge=1, description="Pictures of the class that the untrained base makes before the first step."
    )
    prior_steps: int = Field(50, ge=1, description="Denoising steps of each.")
    prior_guidance: float = Field(5.0, ge=1, description="Classifier-free guidance of each.")


class TextualInversionSettings(TuningSettings):
    """Textual Inversion (arXiv 2208.01618): only a new word's embedding is learned."""

    kind: Literal["textual_inversion"] = "textual_inversion"
    vectors: int = Field(1, ge=1, le=32, description="Tokens of the new word, which stands for the class word.")
    initial_word: str = Field("person", min_length=1, description="The word that it begins as.")
    placeholder_token: str = Field(
        "<person>",
        pattern=r"^[^\s.]+$",
        description="The new word's name in exported files: one that the tokenizer does not have.",
    )
