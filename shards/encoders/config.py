"""Which base model's encoders. No torch here, so that a run file is checked before anything loads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from crawl.config import apply, read, validated
from crawl.settings import Settings

FeatureName = Literal[
    "latents", "clip_last", "clip_penultimate", "clip_pooled", "clip_scales", "face",
    "text_general", "text_background", "text_body",
]  # fmt: skip
DType = Literal["float32", "float16"]
Family = Literal["tiny", "sdxl", "sd15"]
COMMITS = {
    "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b",
    "madebyollin/sdxl-vae-fp16-fix": "207b116dae70ace3637169f1ddd2434b91b3a8cd",
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
}
"""Hub repository → its commit where a run file names none, so that a name always means the same weights."""


class BaseConfig(Settings):
    """A diffusion base: by hub name or local folder in diffusers' layout, or `tiny`, which needs no files."""

    family: Family = Field("tiny", description="`sdxl`, `sd15`, or `tiny`: SDXL's classes, small, random, no network.")
    weights: str | None = Field(None, description="Hub name or folder of the pipeline; `tiny` has none.")
    revision: str | None = Field(
        None, description="Commit of the hub repository; default: a pinned one for known names, else the newest."
    )
    variant: str | None = Field(None, description="Weight file variant, such as `fp16`.")
    vae: str | None = Field(None, description="Another VAE than the pipeline's, such as the fp16-safe one of SDXL.")
    vae_revision: str | None = Field(None, description="The same for the VAE's repository.")
    clip: str | None = Field(
        None, description="CLIP vision tower for reference photos: hub name or folder. `tiny` makes its own."
    )
    clip_revision: str | None = Field(None, description="The same for the vision tower's repository.")
    face: Literal["embedded", "open", "insightface"] = Field(
        "embedded", description="Face embedder (filter.models) where an adapter conditions on one."
    )
    insightface_pack: str = Field("buffalo_l", description="Pack of `face: insightface`.")
    accept_licence: str | None = Field(None, description="Names the licence accepted for `face: insightface`.")
    seed: int = Field(0, ge=0, description="Of `tiny`'s random weights.")

    @model_validator(mode="before")
    @classmethod
    def _known_names_have_a_commit(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        parts = {"weights": "revision", "vae": "vae_revision", "clip": "clip_revision"}
        known = {key: COMMITS[name] for part, key in parts.items() if (name := str(given.get(part))) in COMMITS}
        return {**given, **{key: commit for key, commit in known.items() if given.get(key) is None}}

    @model_validator(mode="after")
    def _weights_are_named(self) -> BaseConfig:
        if (self.family == "tiny") != (self.weights is None):
            raise ValueError("weights: name the pipeline's folder or hub name" if self.weights is None else
                             "weights: tiny has none; name a family")  # fmt: skip
        return self


class EncodeData(Settings):
    """Which dataset: of a training run's `data` the keys that matter here."""

    dataset: str = Field(min_length=1, description="Dataset folder, or any URL fsspec can open.")
    size_px: int | None = Field(None, ge=32, description="Side the target is resized to; default: the shards' own.")


class EncodeSettings(Settings):
    """What is kept, and how."""

    features: tuple[FeatureName, ...] = Field(
        ("latents", "clip_pooled", "text_general"), min_length=1, description="Features to encode, each on its own."
    )
    dtype: DType = Field("float32", description="`float16` halves the bytes; equality with online is then rounded.")
    device: str | None = Field(None, description="Default: `cuda` where there is one, else `cpu`.")

    @field_validator("features", mode="before")
    @classmethod
    def _a_list_may_be_written_with_commas(cls, features: object) -> object:
        return features.split(",") if isinstance(features, str) else features


class EncodeRun(Settings):
    """`python -m shards encode`: the part of a training run file that says what encoders see, and what to keep."""

    data: EncodeData
    base: BaseConfig = BaseConfig()
    encode: EncodeSettings = EncodeSettings()


def encode_run(source: str, overrides: list[str]) -> EncodeRun:
    """From a training run file, of which only what concerns encoders is looked at, or from a dataset's name.

    Raises InputError naming the file and the field.
    """
    document: dict[str, Any] = {"data": {"dataset": source}}
    if source.endswith((".yaml", ".yml")):
        document = {k: v for k, v in read(source, [], EncodeRun.model_fields).items() if k in EncodeRun.model_fields}
        if isinstance(document.get("data"), dict):
            document["data"] = {k: v for k, v in document["data"].items() if k in EncodeData.model_fields}
    for override in overrides:
        apply(document, override)
    return validated(EncodeRun, document, source)
