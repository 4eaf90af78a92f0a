"""Settings of an evaluation: whose pictures, by which prompts, drawn how, measured by which models. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crawl.settings import Settings
from filter.config import FilterConfig
from train.commits import COMMITS, with_commits

SetName = Literal["in_train", "out_of_train", "out_of_domain"]
Embedder = Literal["embedded", "open", "insightface"]
_VITPOSE = "usyd-community/vitpose-base-simple"


class EvaluatePrompt(Settings):
    """One prompt, whole and in parts: a method is given the parts it listens to, the rest stays in its general part."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="Of files and columns.")
    whole: str = Field(min_length=1, description="For methods that take one prompt; what CLIP-T compares all with.")
    general: str = Field("", description="The general part alone; empty: this prompt is not split.")
    body: str = Field("", description="The body part.")
    background: str = Field("", description="The background part.")
    class_word: str | None = Field(None, description="The word that is the person; default: the first known one.")

    @model_validator(mode="after")
    def _all_parts_or_none(self) -> EvaluatePrompt:
        if (self.body or self.background) and not self.general:
            raise ValueError("general: a prompt with a body or background part has a general part too")
        return self


class EvaluateSettings(Settings):
    """Everything that numbers depend on, beside the runs and their data."""

    sets: tuple[SetName, ...] = Field(
        ("in_train", "out_of_train", "out_of_domain"), description="People of which sets; empty sets are left out."
    )
    people: int = Field(10, ge=1, description="Most people of a set.")
    images: int = Field(5, ge=1, description="Pictures a person and prompt; seeds count up.")
    references: int = Field(1, ge=1, le=16, description="Reference photos a person.")
    photos: int = Field(16, ge=1, description="Most other photos of a person that pictures are compared with.")
    prompts: tuple[EvaluatePrompt, ...] = Field((), description="Default: the thesis' four, in its split.")
    seed: int = Field(42, ge=0, description="Of the first picture's noise.")
    steps: int = Field(50, ge=1, description="Denoising steps.")
    guidance: float = Field(5.0, ge=1, description="Classifier-free guidance; 1: none.")
    merge_step: int = Field(10, ge=0, description="References count from this denoising step.")
    scheduler: Literal["euler", "ddim", "trailing"] = Field(
        "euler", description="Of denoising; `trailing` for distilled bases."
    )
    negative: str = Field("", description="What guidance leads away from.")
    size_px: int | None = Field(None, ge=32, description="Side of the pictures; default: each run's own.")
    at_once: int = Field(4, ge=1, description="Pictures denoised together.")
    detector: Literal["embedded", "open", "insightface", "retina-face"] = Field(
        "embedded", description="Finds faces, in generated and real pictures alike."
    )
    embedders: tuple[Embedder, ...] = Field(
        ("embedded",), min_length=1, description="Of Face-Sim, each in columns of its own; better two than one."
    )
    insightface_pack: str = Field("buffalo_l", description="Pack of `insightface`.")
    accept_licence: str | None = Field(None, description="Names the non-commercial licence accepted, where one asks.")
    clip: str | None = Field(None, description="CLIP of CLIP-T and CLIP-I: hub name or folder; null: `tiny`, random.")
    clip_revision: str | None = Field(
        None, description="Commit of its hub repository; default: a pinned one for known names, else the newest."
    )
    inception: Literal["tiny", "tensorflow"] = Field(
        "tiny",
        description="Of FID, KID and IS: TensorFlow's of 2015-12-05, or `tiny`, random: then they are fid_tiny …",
    )
    lpips: Literal["tiny", "alex"] = Field("tiny", description="Backbone of FaceDiv's LPIPS; `tiny` is random.")
    pose: Literal["none", "blazepose", "vitpose"] = Field("none", description="Finds keypoints in generated pictures.")

    @model_validator(mode="before")
    @classmethod
    def _known_names_have_a_commit(cls, given: object) -> object:
        return with_commits(given, {"clip": "clip_revision"})

    @model_validator(mode="after")
    def _numbers_fit(self) -> EvaluateSettings:
        if self.merge_step > self.steps:
            raise ValueError(f"merge_step: {self.merge_step} is more than steps ({self.steps})")
        names = [prompt.name for prompt in self.prompts]
        if len(set(names)) < len(names):
            raise ValueError("prompts: two have one name")
        if len(set(self.embedders)) < len(self.embedders):
            raise ValueError("embedders: one is named twice")
        self.detecting()
        for embedder in self.embedders:
            self.embedding(embedder)
        return self

    def detecting(self) -> FilterConfig:
        """What loads the detector and the pose model."""
        return self._filter(models=self.detector, pose=self.pose)

    def embedding(self, embedder: Embedder) -> FilterConfig:
        """What loads an embedder: one that goes by landmarks, whose detector ever found them."""
        return self._filter(models="open", embedder=embedder)

    def _filter(self, **keys: object) -> FilterConfig:
        keys |= {"insightface_pack": self.insightface_pack, "accept_licence": self.accept_licence}
        return FilterConfig.model_validate(keys | {"vitpose_model": _VITPOSE, "vitpose_revision": COMMITS[_VITPOSE]})


class ScheduledSettings(EvaluateSettings):
    """The same while training: few people of the run's own data, few steps, on running means, on all processes."""

    every: int | None = Field(None, ge=1, description="Steps between evaluations; null: none.")
    sets: tuple[SetName, ...] = Field(("in_train", "out_of_train"), description="People of which sets.")
    people: int = Field(4, ge=1, description="Most people of a set.")
    images: int = Field(1, ge=1, description="Pictures a person and prompt.")
    photos: int = Field(4, ge=1, description="Most other photos of a person that pictures are compared with.")
    steps: int = Field(20, ge=1, description="Denoising steps.")
    merge_step: int = Field(4, ge=0, description="References count from this denoising step.")

    @model_validator(mode="after")
    def _people_are_in_the_data(self) -> ScheduledSettings:
        if "out_of_domain" in self.sets:
            raise ValueError("sets: a run knows no out_of_domain folder: use python -m train evaluate")
        return self
