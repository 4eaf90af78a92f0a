"""Settings of the filter stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from crawl.config import CrawlRun
from crawl.settings import Settings

NON_COMMERCIAL = "insightface-non-commercial"
"""The one licence that has to be accepted by name."""
Rule = Literal["cluster", "photomaker-8delta", "largest-face", "linkage", "hdbscan"]


class VerifyConfig(Settings):
    """How it is decided that a photo shows the named person."""

    rule: Rule = Field("cluster", description="Verification rule; docs/verification.md compares them.")
    threshold: float | None = Field(
        None, gt=-1, lt=1, description="Least cosine to the identity's centre; default: the embedder's calibrated one."
    )
    min_photos: int = Field(2, ge=2, description="An identity with fewer photos that agree is not verified.")
    min_share: float = Field(
        0.4, gt=0, le=1, description="Least share of an identity's photos that show one person; else `no_majority`."
    )
    min_lead: float = Field(
        0.6, ge=0.5, le=1, description="Least part of that person against the second one; else `no_majority`."
    )
    same_person_cosine: float | None = Field(
        None, gt=-1, lt=1, description="Two names whose centres are closer are one person; default: the embedder's."
    )
    set_aside_same_person: bool = Field(True, description="Set the smaller of two such names aside.")


class ClassifierConfig(Settings):
    """An image classifier that verified photos must pass: watermarks, nudity, age."""

    name: str = Field(
        pattern="^[a-z][a-z0-9_]{1,31}$", description="What it looks for; the ledger's reason: `watermark`."
    )
    model: str = Field(
        min_length=1, description="An image classifier for transformers: name on the Hugging Face hub, or a folder."
    )
    revision: str = Field("main", min_length=1, description="Revision on the hub; best a commit's hash.")
    labels: tuple[str, ...] = Field(min_length=1, description="Those of its labels whose probability counts.")
    max_probability: float | None = Field(None, ge=0, le=1, description="Photos with more end here.")
    min_probability: float | None = Field(None, ge=0, le=1, description="Photos with less end here.")


class FilterConfig(Settings):
    """Settings of `python -m filter`."""

    models: Literal["embedded", "open", "insightface", "retina-face"] = Field(
        "embedded", description="Face detector, and the embedder that goes with it."
    )
    embedder: Literal["embedded", "open", "insightface"] | None = Field(
        None, description="Another embedder than the detector's own (`retina-face` has none: default `embedded`)."
    )
    insightface_pack: str = Field("buffalo_l", description="Name of the insightface model pack.")
    accept_licence: str | None = Field(
        None, description="Names the non-commercial licence you accept; asked for by the models that carry one."
    )
    min_side_px: int = Field(512, ge=1, description="Least short side of a photo.")
    min_megapixels: float | None = Field(None, gt=0, description="Least size of a photo.")
    max_aspect_ratio: float | None = Field(None, ge=1, description="Greatest long side / short side.")
    min_sharpness: float | None = Field(None, ge=0, description="Least variance of the Laplacian, at 512 px.")
    min_colourfulness: float | None = Field(
        None, ge=0, description="Least mean saturation, 0–1; 0.02 refuses grey-scale photos."
    )
    near_duplicate_bits: int = Field(
        6, ge=0, le=32, description="Photos of one identity whose 64-bit dHash differs in at most so many bits are one."
    )
    min_face_px: int = Field(256, ge=16, description="Least shorter side of a face box.")
    min_face_score: float | None = Field(None, description="Least detector score; default: the detector's own.")
    max_faces: int | None = Field(None, ge=1, description="Most faces in a photo, of any size found.")
    verify: VerifyConfig = VerifyConfig()
    pose: Literal["none", "vitpose", "blazepose"] = Field(
        "none",
        description="What finds 12 body keypoints of the verified person; `vitpose` looks where `blazepose` finds it.",
    )
    vitpose_model: str = Field(
        "usyd-community/vitpose-base-simple", min_length=1, description="Name on the Hugging Face hub, or a folder."
    )
    vitpose_revision: str = Field(
        "main", min_length=1, description="Revision on the hub; a commit's hash always means the same weights."
    )
    pose_batch_size: int = Field(8, ge=1, le=1024, description="Photos that `vitpose` sees at a time.")
    classifiers: tuple[ClassifierConfig, ...] = Field(
        (), description="Image classifiers that verified photos must pass, such as one for watermarks."
    )
    classifier_batch_size: int = Field(8, ge=1, le=1024, description="Photos that a classifier sees at a time.")
    framing: Literal["portrait", "body"] = Field(
        "portrait", description="`portrait`: the face fills ≥ `min_face_share` of the square; `body`: as much as fits."
    )
    min_face_share: float = Field(0.10, gt=0, lt=1, description="Least area of the face box / area of the square.")
    size_px: int = Field(512, ge=32, le=4096, description="Side of the square training crop.")
    face_size_px: int = Field(256, ge=32, le=1024, description="Side of the reference face crop.")
    jpeg_quality: int = Field(95, ge=50, le=100, description="Quality of both encoded crops.")

    @field_validator("accept_licence", mode="before")
    @classmethod
    def _a_licence_is_accepted_by_its_name(cls, name: object) -> object:
        if name is not None and name != NON_COMMERCIAL:
            raise ValueError(f"expected {NON_COMMERCIAL}, the name of the licence")
        return name

    @field_validator("classifiers")
    @classmethod
    def _classifiers_differ(cls, classifiers: tuple[ClassifierConfig, ...]) -> tuple[ClassifierConfig, ...]:
        names = [classifier.name for classifier in classifiers]
        if len(set(names)) != len(names):
            raise ValueError(f"each name once, not {', '.join(names)}")
        return classifiers

    @model_validator(mode="after")
    def _an_embedder_is_known(self) -> FilterConfig:
        if self.accept_licence is not None:
            return self
        if "insightface" in (self.models, self.embedder):
            what = f"insightface's pack {self.insightface_pack}"
        elif self.models == "retina-face":
            what = "retina-face's weights were converted from insightface's, which"
        else:
            return self
        raise ValueError(
            f"{what} may be used for non-commercial research only: "
            f"set filter.accept_licence: {NON_COMMERCIAL}, or use models: open"
        )

    @property
    def embedder_name(self) -> str:
        """The embedder in use, whether named or implied."""
        return self.embedder or ("embedded" if self.models == "retina-face" else self.models)


class FilterRun(CrawlRun):
    """What `python -m filter` needs of a run file."""

    filter: FilterConfig = FilterConfig()
