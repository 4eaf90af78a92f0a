"""What a rejection's numbers mean, in words: `cosine to this person 0.93, at least 0.96`.

Knows the reasons of every stage; a reason that it does not know is shown with its bare numbers.
"""

from __future__ import annotations

from crawl.decode import REASONS as DECODE
from crawl.policy.refusals import REASONS as REFUSALS

_LEAST, _MOST = "at least", "at most"
_NUMBERS: dict[str, tuple[str, str, str]] = {
    "not_this_person": ("cosine to this person {}", _LEAST, "{}"),
    "second_person": ("cosine to this person {}", _LEAST, "{}"),
    "same_as_other_name": ("cosine of the two people’s centres {}", _LEAST, "{}"),
    "no_majority": ("share of photos that agree {}", _LEAST, "{}"),
    "too_few_photos": ("{} photos agree", _LEAST, "{}"),
    "face_too_small": ("face of {} px", _LEAST, "{} px"),
    "no_face": ("best face score {}", _LEAST, "{}"),
    "too_many_faces": ("{} faces", _MOST, "{}"),
    "short_side": ("short side of {} px", _LEAST, "{} px"),
    "megapixels": ("{} megapixels", _LEAST, "{}"),
    "blurred": ("sharpness {}", _LEAST, "{}"),
    "grey_scale": ("colourfulness {}", _LEAST, "{}"),
    "aspect_ratio": ("aspect ratio {}", _MOST, "{}"),
    "duplicate": ("{} of 64 bits differ", _MOST, "{}"),
    "invalid_caption": ("{} faults in the last answer", _MOST, "{}"),
    "http_status": ("status {}", "", ""),
}
"""Reason → what was measured, how it is compared, with what."""
_MEANINGS = {
    **{
        reason: "; ".join(
            clause for clause in text.split("; ") if not clause.startswith(("value:", "detail:", "threshold:"))
        )
        for reason, text in {**DECODE, **REFUSALS}.items()
    },
    "http_status": "the server answered with another status than 200",
    "too_many_redirects": "it was led on and on",
    "too_large": "more bytes than the run allows",
    "too_many_pixels": "more pixels than are decoded",
    "animated": "moving pictures",
    "too_many_scans": "a progressive JPEG made to cost time",
    "partition_timeout": "not asked: time for this host was up",
    "no_face": "no face is found, or none surely enough",
    "too_many_faces": "more faces than the run allows",
    "face_too_small": "every face is smaller than the run asks for",
    "not_this_person": "no face is near enough to the person's centre",
    "second_person": "shows one other person, who is in several of this name's photos",
    "no_majority": "no person is in enough of this name's photos: the whole name is set aside",
    "too_few_photos": "too few photos of this name agree: the whole name is set aside",
    "same_as_other_name": "another name of the dataset shows the same person, with more photos",
    "duplicate": "a copy of another photo of this person; the larger is kept",
    "short_side": "the short side is under the run's limit",
    "megapixels": "smaller than the run's limit",
    "blurred": "the variance of the Laplacian is under the run's limit",
    "grey_scale": "hardly any colour",
    "aspect_ratio": "too long or too wide",
    "invalid_caption": "no answer of the captioner was valid",
    "crash": "its process died over it, twice",
    "error": "an exception; the detail names it",
    "taken_down": "removed on request",
}


def meaning(reason: str) -> str:
    """One clause, "" when there is none."""
    return _MEANINGS.get(reason, "")


def measured(reason: str, value: float | None, threshold: float | None) -> str:
    """The numbers of a rejection, "" when it has none."""
    words, relation, limit = _NUMBERS.get(reason, ("value {}", "threshold", "{}"))
    said = [words.format(number(value))] if value is not None else []
    said += [f"{relation} {limit.format(number(threshold))}"] if threshold is not None and limit else []
    return ", ".join(said)


def number(value: float) -> str:
    """Three decimals under one, four digits above; whole numbers whole."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.4g}"
