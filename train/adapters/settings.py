"""Settings of every adapter, one class a `kind`. No torch here: a run file is checked before anything loads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class NoAdapterSettings(AnyAdapter):
    """Text alone."""

    kind: Literal["none"] = "none"


class IpAdapterSettings(AnyAdapter):
    """IP-Adapter (arXiv 2308.06721) with one or several references."""

    kind: Literal["ip_adapter"] = "ip_adapter"
    encoder: Literal["base", "plus", "faceid"] = Field("base", description="How references become tokens.")
    tokens: int | None = Field(None, ge=1, description="Tokens a reference; default: base 4, plus 16, faceid 4.")
    depth: int = Field(4, ge=1, description="Layers of the `plus` resampler.")
    keys: Aggregation = Field("concat", description="G: how several references' keys become one set.")
    values: Aggregation = Field("concat", description="U: the same for values.")
    self_attention: Literal["mean", "concat"] = Field(
        "mean", description="How `self_attention` ends; `concat`: one matrix over all slots, as its authors write."
    )
    per_slot: bool = Field(
        False, description="K and V matrices of its own for each reference slot, as the paper writes."
    )
    max_references: int = Field(4, ge=1, le=16, description="Slots, where the method has a fixed number.")
    dropped: Literal["zeros", "absent"] = Field(
        "zeros",
        description="A sample without references sees tokens of zeros, as IP-Adapter trains, or no image attention.",
    )
    scale: float = Field(1.0, gt=0, description="λ of the image attention.")
    lora: LoraSettings | None = Field(None, description="FaceID trains LoRA (rank 128) beside its K and V.")

    @property
    def token_count(self) -> int:
        """Tokens a reference."""
        return self.tokens or {"base": 4, "plus": 16, "faceid": 4}[self.encoder]

    @model_validator(mode="after")
    def _slots_are_kept(self) -> IpAdapterSettings:
        if self.per_slot and self.self_attention == "concat" and "self_attention" in (self.keys, self.values):
            raise ValueError("self_attention: concat leaves no slots for per_slot: use mean")
        return self


class PhotoMakerSettings(AnyAdapter):
    """PhotoMaker (arXiv 2312.04461), v1 and v2."""

    kind: Literal["photomaker"] = "photomaker"
    version: Literal["v1", "v2"] = Field("v1", description="v2 adds a face embedding and two tokens a reference.")
    train_clip: bool = Field(False, description="Train the whole CLIP tower (A.1.1, 5.1.1).")
    own_clip: bool = Field(
        False, description="The CLIP tower is the adapter's own, kept with its weights, as the released ones need."
    )
    train_projections: bool = Field(True, description="Train both visual projections.")
    train_fuse: bool = Field(True, description="Train the fuse module.")
    lora: LoraSettings | None = Field(LoraSettings(), description="null: no LoRA.")
    identity_path: Literal["text", "attention", "both"] = Field(
        "text", description="Identity fused into the class token (text), through its own cross-attention, or both."
    )
    copy_lora: bool = Field(
        False, description="5.2.3: the identity attention's K and V stay the base's; they get a copy of the LoRA."
    )
    max_references: int = Field(4, ge=1, le=16, description="Most references at a time; further ones are not used.")
    face_norm: float = Field(
        1.0,
        gt=0,
        description="v2: length of the face embeddings; the released weights know raw ones (≈ 20).",
    )

    @model_validator(mode="after")
    def _paths_fit(self) -> PhotoMakerSettings:
        if self.identity_path == "both" and self.version == "v2":
            raise ValueError("identity_path: both needs version v1: its second head is a visual projection")
        if self.copy_lora and (self.lora is None or self.identity_path == "text"):
            raise ValueError("copy_lora: needs lora, and identity_path attention or both to copy it to")
        return self


class SplitPromptSettings(PhotoMakerSettings):
    """PhotoMaker's identity path, and one decoupled cross-attention per extra part of the prompt (thesis, 5.2.4)."""

    kind: Literal["split_prompt"] = "split_prompt"  # type: ignore[assignment]
    parts: tuple[Literal["background", "body"], ...] = Field(("background",), min_length=1, description="Extra parts.")
    order: Literal["parallel", "sequential"] = Field(
        "parallel",
        description="`sequential`: background → body → identity, with skips and zero-initialised outputs; "
        "`identity_path` says whether the prompt carries the identity too.",
    )
    scales: dict[Literal["background", "body", "identity"], float] = Field(
        {}, description="λ of each extra attention; default 1."
    )

    @model_validator(mode="after")
    def _each_part_once(self) -> SplitPromptSettings:
        if len(set(self.parts)) != len(self.parts):
            raise ValueError("parts: each part once")
        if self.order == "sequential" and self.copy_lora:
            raise ValueError("copy_lora: the sequential attentions have no base K and V to copy it beside")
        return self


class PictureLossSettings(AnyAdapter):
    """Losses on the decoded picture (BoLID, seed 000); its weights are not published: off until they are set."""

    keypoint_weight: float = Field(
        0.0, ge=0, description="Of the keypoint loss: squared distances of 12 points, in lengths of the torso."
    )
    pose_network: str | None = Field(
        None, description="Frozen ViTPose of the keypoint loss: hub name or folder; `tiny`: small, random."
    )
    clip_weight: float = Field(0.0, ge=0, description="Of the CLIP loss: 1 − cos of picture and prompt.")
    clip_model: str | None = Field(
        None, description="Frozen CLIP of the CLIP loss: hub name or folder; `tiny`: small, random."
    )
    decode_below: int = Field(
        300, ge=1, le=1000, description="Both losses see the decoded x̂0 of samples with a smaller timestep only."
    )

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
    depth: int = Field(4, ge=1, description="Layers of both resamplers.")
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


AdapterSettings = Annotated[
    NoAdapterSettings
    | IpAdapterSettings
    | PhotoMakerSettings
    | SplitPromptSettings
    | BolidSettings
    | BolidLatentSettings
    | DreamBoothSettings
    | TextualInversionSettings,
    Field(discriminator="kind"),
]
