"""What one sample promises: the fields of its JSON, its caption, its keypoints, its pictures.

Pictures are looked at in one of two ways: walked from their first segment to their last (whole, and of the side that
the JSON says), or decoded pixel by pixel. Knows nothing of tars or an index.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from typing import Any

from crawl.containers import header_pixels
from crawl.decode import decode
from crawl.photo import Rejection
from filter.keypoints import NAMES
from shards.format.sample import Sample

_NUMBER = (int, float)
FIELDS: dict[str, type | tuple[type, ...]] = {
    "key": str,
    "identity": str,
    "general": str,
    "background": str,
    "body": str,
    "class_word": str,
    "trigger_position": int,
    "caption_made_by": str,
    "original_size": list,
    "crop_top_left": list,
    "crop_xyxy_px": list,
    "size_px": int,
    "face_xyxy_px": list,
    "landmarks_px": list,
    "face_score": _NUMBER,
    "faces_in_photo": int,
    "identity_score": _NUMBER,
    "identity_rule": str,
    "sharpness": _NUMBER,
    "colourfulness": _NUMBER,
    "keypoints": list,
    "keypoint_scores": list,
    "keypoints_reason": str,
    "sha256": str,
    "page_url": str,
    "image_url": str,
    "licence": str,
    "author": str,
    "fetched_at": str,
    "signals": str,
    "models": list,
}
"""What KEY.json must hold, and as what."""


def sample_problems(sample: Sample, decoded: bool) -> Iterator[str]:
    """All that is wrong with a sample. `decoded`: look at every pixel of its pictures."""
    yield from _field_problems(sample.metadata)
    yield from _caption_problems(sample.metadata)
    yield from _keypoint_problems(sample.metadata)
    yield from _picture_problems(sample) if decoded else _outline_problems(sample)


def _field_problems(metadata: dict[str, Any]) -> Iterator[str]:
    for field_name, kinds in FIELDS.items():
        if field_name not in metadata:
            yield f"the JSON has no {field_name}"
        elif not isinstance(metadata[field_name], kinds) or isinstance(metadata[field_name], bool):
            yield f"{field_name} in the JSON is {reprlib.repr(metadata[field_name])}"


def _caption_problems(metadata: dict[str, Any]) -> Iterator[str]:
    general, word, position = (metadata.get(name) for name in ("general", "class_word", "trigger_position"))
    for name in ("general", "body", "class_word"):
        if metadata.get(name) == "":
            yield f"{name} in the JSON is empty"
    if not (isinstance(general, str) and isinstance(word, str) and isinstance(position, int) and general and word):
        return
    if not (0 < position <= len(general) and general[:position].lower().endswith(word.lower())):
        yield f"trigger_position {position} in the JSON is not behind the class word {reprlib.repr(word)}"


def _keypoint_problems(metadata: dict[str, Any]) -> Iterator[str]:
    points, scores = metadata.get("keypoints"), metadata.get("keypoint_scores")
    if isinstance(points, list) and not (len(points) == len(NAMES) and all(map(_is_point, points))):
        yield f"keypoints in the JSON are not {len(NAMES)} points: {reprlib.repr(points)}"
    if isinstance(scores, list) and not (
        len(scores) == len(NAMES) and all(_is_number(s) and 0 <= s <= 1 for s in scores)
    ):
        yield f"keypoint_scores in the JSON are not {len(NAMES)} numbers of 0–1: {reprlib.repr(scores)}"


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool)


def _picture_problems(sample: Sample) -> Iterator[str]:
    for suffix, content in (("jpg", sample.image_jpeg), ("face.jpg", sample.face_jpeg)):
        image = decode(content)
        if isinstance(image, Rejection):
            yield f"the {suffix} does not decode: {image.reason}"
        elif image.shape[0] != image.shape[1]:
            yield f"the {suffix} is not square: {image.shape[1]} × {image.shape[0]} px"
        elif suffix == "jpg" and image.shape[0] != sample.metadata.get("size_px"):
            yield f"the jpg is {image.shape[0]} px a side, the JSON says {reprlib.repr(sample.metadata.get('size_px'))}"


def _outline_problems(sample: Sample) -> Iterator[str]:
    """By their structure alone, in a hundredth of the time."""
    side_px = sample.metadata.get("size_px")
    pixels = header_pixels(sample.image_jpeg)
    if not pixels:
        yield "the jpg is no whole picture"
    elif not isinstance(side_px, int) or pixels != side_px**2:
        yield f"the jpg has {pixels:,} pixels, the JSON says {reprlib.repr(side_px)} a side"
    face_pixels = header_pixels(sample.face_jpeg)
    if not face_pixels:
        yield "the face.jpg is no whole picture"
    elif math.isqrt(face_pixels) ** 2 != face_pixels:
        yield f"the face.jpg is not square: {face_pixels:,} pixels"
