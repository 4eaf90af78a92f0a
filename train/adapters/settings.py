"""Settings of every adapter, one class a `kind`. No torch here: a run file is checked before anything loads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from train.adapters.any_settings import Aggregation as Aggregation
from train.adapters.any_settings import AnyAdapter
from train.adapters.any_settings import LoraSettings as LoraSettings
from train.adapters.bolid_settings import BolidLatentSettings as BolidLatentSettings
from train.adapters.bolid_settings import BolidSettings as BolidSettings
from train.adapters.bolid_settings import PictureLossSettings as PictureLossSettings
from train.adapters.pulid_settings import LightningSettings as LightningSettings
from train.adapters.pulid_settings import PulidSettings as PulidSettings
from train.adapters.tuning_settings import DreamBoothSettings as DreamBoothSettings
from train.adapters.tuning_settings import TextualInversionSettings as TextualInversionSettings


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


AdapterSettings = Annotated[
    NoAdapterSettings
    | IpAdapterSettings
    | PhotoMakerSettings
    | SplitPromptSettings
    | BolidSettings
    | BolidLatentSettings
    | DreamBoothSettings
    | PulidSettings
    | TextualInversionSettings,
    Field(discriminator="kind"),
]
