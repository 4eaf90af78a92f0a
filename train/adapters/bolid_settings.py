"""Settings of BoLID and its follow-up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from train.adapters.any_settings import Aggregation, AnyAdapter
from train.commits import with_commits


class PictureLossSettings(AnyAdapter):
    """Losses on the decoded picture (BoLID, seed 000); its weights are not published: off until they are set."""

    keypoint_weight: float = Field(
        0.0, ge=0, description="Of the keypoint loss: squared distances of 12 points, in lengths of the torso."
    )
    pose_network: str | None = Field(
        None, description="Frozen ViTPose of the keypoint loss: hub name or folder; `tiny`: small, random."
    )
    pose_network_revision: str | None = Field(
        None, description="Commit of its hub repository; default: a pinned one for known names, else the newest."
    )
    clip_weight: float = Field(0.0, ge=0, description="Of the CLIP loss: 1 − cos of picture and prompt.")
    clip_model: str | None = Field(
        None, description="Frozen CLIP of the CLIP loss: hub name or folder; `tiny`: small, random."
    )
    clip_model_revision: str | None = Field(None, description="The same for the CLIP model's repository.")
    decode_below: int = Field(
        300, ge=1, le=1000, description="Both losses see the decoded x̂0 of samples with a smaller timestep only."
    )

    @model_validator(mode="before")
    @classmethod
    def _known_names_have_a_commit(cls, given: object) -> object:
        return with_commits(given, {n: f"{n}_revision" for n in ("pose_network", "clip_model")})

    @model_validator(mode="after")
    def _losses_have_their_network(self) -> PictureLossSettings:
        for weight, network in (("keypoint_weight", "pose_network"), ("clip_weight", "clip_model")):
            if getattr(self, weight) and getattr(self, network) is None:
                raise ValueError(f"{weight}: needs {network}")
        return self


class BolidSettings(PictureLossSettings):
    """BoLID: text, face and body through decoupled attention, with losses on the decoded picture (seed 000)."""

    kind: Literal["bolid"] = "bolid"
    tokens: int = Field(16, ge=1, description="Tokens of a reference's face, and of its body's look.")
    depth: int = Field(4, ge=1, description="Layers of the resampler of bodies.")
    aggregation: Aggregation = Field("concat", description="G: how several references become one condition.")
    self_attention: Literal["mean", "concat"] = Field(
        "mean", description="How `self_attention` ends; `concat`: one matrix over all slots, as its authors write."
    )
    max_references: int = Field(4, ge=1, le=16, description="Most references at a time.")
    scales: dict[Literal["face", "body"], float] = Field({}, description="λ_f and λ_b; default 1.")

    @property
    def token_count(self) -> int:
        """Tokens a reference."""
        return self.tokens


class BolidLatentSettings(PictureLossSettings):
    """BoLID's follow-up (2025): one latent vector of a body from Gaussian-weighted views, and a reference beside it."""

    kind: Literal["bolid_latent"] = "bolid_latent"
    body_width: int = Field(756, ge=8, description="Size of the body vector.")
    tokens: int = Field(4, ge=1, description="Reference tokens, and body tokens.")
    sigma: float = Field(
        50 / 1024, gt=0, description="Deviation of the Gaussian round each keypoint, in sides of the crop."
    )
    floor: float = Field(0.1, ge=0, le=1, description="α: what is left of the picture far from all keypoints.")
    max_references: int = Field(4, ge=1, le=128, description="Most views at a time.")
    scales: dict[Literal["reference", "body"], float] = Field(
        {}, description="λ_ref and λ_b; default 1. Its authors generate with 0.8 and 1."
    )
