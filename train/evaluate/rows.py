"""What is written down of each picture, and the names, meanings and order of all metrics. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Family = Literal["face", "prompt", "likeness", "set", "pose", "diversity"]
TINY = "_tiny"
REAL, STRANGERS = "real", "strangers"
LEVELS = {REAL: "other photos of the same person", STRANGERS: "photos of the others of this set"}
"""What stands among the methods and is none: photos, measured as pictures are."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one picture."""

    method: str
    set_name: str
    person: str
    prompt: str
    seed: int
    picture: str
    """Path below the output; "" for a photo."""
    metric: str
    model: str
    """What measured it: numbers of different models are never compared."""
    value: float | None
    """None where it could not be measured: no face, no point seen in both."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is to be known of a metric."""

    family: Family
    title: str
    better: Literal["higher", "lower", ""]
    about: str
    digits: int = 3


METRICS: Mapping[str, Metric] = {
    "face_sim_reference": Metric("face", "to references", "higher", "cosine to the references' mean, where a face is"),
    "face_sim_reference_or_zero": Metric("face", "no face = 0", "higher", "the same, 0 where no face is"),
    "face_sim_held_out": Metric("face", "to other photos", "higher", "mean cosine to photos that no method was shown"),
    "face_sim_held_out_or_zero": Metric("face", "other, no face = 0", "higher", "the same, 0 where no face is"),
    "face_sim_centre": Metric("face", "to centre", "higher", "cosine to the mean of all the person's photos"),
    "copy_paste_gap": Metric("face", "copy-paste gap", "lower", "to references minus to other photos; high: copied"),
    "no_face": Metric("face", "no face", "lower", "share of pictures in which the detector finds none"),
    "clip_t_clean": Metric("prompt", "CLIP-T", "higher", "100·cos to the whole prompt, one text for all methods", 2),
    "clip_t_clean_general": Metric("prompt", "general", "higher", "100·cos to the general part", 2),
    "clip_t_clean_body": Metric("prompt", "body", "higher", "100·cos to the body part", 2),
    "clip_t_clean_background": Metric("prompt", "background", "higher", "100·cos to the background part", 2),
    "clip_t_thesis": Metric("prompt", "as typed", "higher", "100·cos to what the method was given, with trigger", 2),
    "clip_t_truncated": Metric("prompt", "cut", "", "share of prompts longer than CLIP reads", 2),
    "clip_i_plain": Metric("likeness", "CLIP-I to plain", "higher", "cosine to the same noise with nobody (PuLID)"),
    "clip_i_photo": Metric("likeness", "CLIP-I to photos", "higher", "mean cosine to the person's photos (PhotoMaker)"),
    "fid": Metric("set", "FID", "lower", "to the people's photos", 2),
    "kid": Metric("set", "KID", "lower", "to the people's photos; ± over subsets", 4),
    "is": Metric("set", "IS", "higher", "± over splits", 2),
    "pose_oks": Metric("pose", "OKS", "higher", "of points seen in picture and first reference"),
    "pose_pck": Metric("pose", "PCK@0.2", "higher", "share of such points within 0.2 torsos"),
    "pose_literal": Metric("pose", "literal", "lower", "mean squared distance of all 12 points, picture side = 1", 4),
    "no_pose": Metric("pose", "no pose", "lower", "share of pictures with no body found"),
    "face_div": Metric("diversity", "FaceDiv", "higher", "LPIPS between faces of one person and prompt"),
}  # fmt: skip
"""In the order they are shown. A `tiny` model's stand under the name with `_tiny` behind the first word or two."""
_STEMS = ("clip_t", "clip_i", "fid", "kid", "is", "face_div")


def named(metric: str, model: str) -> str:
    """The metric's name as measured by `model`: a random network's is never called as the published one."""
    stem = next((s for s in _STEMS if metric == s or metric.startswith(f"{s}_")), None)
    return metric if model != "tiny" or stem is None else f"{stem}{TINY}{metric.removeprefix(stem)}"


def described(name: str) -> Metric:
    """Of a name that `named` gave."""
    metric = METRICS[name.replace(TINY, "")]
    if TINY not in name:
        return metric
    return Metric(
        metric.family, name, metric.better, f"{metric.about}; random network: no published number", metric.digits
    )


def with_zeros(rows: list[Row]) -> Iterator[Row]:
    """The rows, and Face-Sim with 0 where no face was found."""
    for row in rows:
        yield row
        if f"{row.metric}_or_zero" in METRICS:
            value = 0.0 if row.value is None else row.value
            yield Row(
                row.method, row.set_name, row.person, row.prompt, row.seed, row.picture,
                f"{row.metric}_or_zero", row.model, value,
            )  # fmt: skip
