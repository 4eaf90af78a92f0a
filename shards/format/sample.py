"""The Sample row: what one sample of a shard holds, and the JSON that describes it.

`KEY.jpg` the square crop, `KEY.face.jpg` the reference face, `KEY.json` everything known of both, and
optional `KEY.NAME.npy` features. docs/data-format.md spells the JSON out. Knows nothing of tars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caption.captioned import Captioned
from filter.keypoints import NAMES


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample, as bytes: decoding is the reader's caller's business."""

    key: str
    identity: str
    image_jpeg: bytes
    face_jpeg: bytes
    metadata: dict[str, Any]
    features: Mapping[str, bytes] = field(default_factory=dict)
    """NAME → `.npy` bytes; empty in published shards."""

    def members(self) -> list[tuple[str, bytes]]:
        """(file name, content) in tar order: sorted by name."""
        document = json.dumps(self.metadata, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        files = {"face.jpg": self.face_jpeg, "jpg": self.image_jpeg, "json": document.encode()}
        files.update({f"{name}.npy": content for name, content in self.features.items()})
        return [(f"{self.key}.{suffix}", files[suffix]) for suffix in sorted(files)]


def to_sample(row: Captioned) -> Sample:
    """The published form of a row: no name, no embedding, no original bytes."""
    portrait, caption, photo = row.portrait, row.caption, row.portrait.photo
    left, top, right, _ = portrait.crop_xyxy_px
    scale = portrait.size_px / (right - left)
    metadata: dict[str, Any] = {
        "key": portrait.key,
        "identity": portrait.identity,
        "general": caption.general,
        "background": caption.background,
        "body": caption.body,
        "class_word": caption.class_word,
        "trigger_position": caption.trigger_position,
        "caption_made_by": caption.made_by,
        "original_size": [portrait.height_px, portrait.width_px],
        "crop_top_left": [round(top * scale), round(left * scale)],
        "crop_xyxy_px": list(portrait.crop_xyxy_px),
        "size_px": portrait.size_px,
        "face_xyxy_px": _rounded(portrait.face_xyxy_px),
        "landmarks_px": [_rounded(p) for p in portrait.landmarks_px],
        "face_score": round(portrait.face_score, 4),
        "faces_in_photo": portrait.faces_in_photo,
        "identity_score": round(portrait.identity_score, 4),
        "identity_rule": portrait.identity_rule,
        "sharpness": round(portrait.sharpness, 2),
        "colourfulness": round(portrait.colourfulness, 4),
        # No field is ever null: `datasets` takes a field's type from the first samples it sees. An unknown keypoint
        # is 0, 0 with score 0, as in COCO; an unknown text is "". A local file's path is left out, since it holds
        # the person's name.
        "keypoints": [_rounded(point) for point in portrait.keypoints or ((0.0, 0.0),) * len(NAMES)],
        "keypoint_scores": _rounded(portrait.keypoint_scores or (0.0,) * len(NAMES), 4),
        "keypoints_reason": portrait.keypoints_reason or "",
        "sha256": photo.sha256,
        "page_url": photo.page_url or "",
        "image_url": photo.image_url or "",
        "licence": photo.licence or "",
        "author": photo.author or "",
        "fetched_at": photo.fetched_at or "",
        "signals": ", ".join(photo.signals),
        "models": list(portrait.models),
    }
    if portrait.classes:
        metadata["classes"] = {score.name: round(score.probability, 4) for score in portrait.classes}
    return Sample(portrait.key, portrait.identity, portrait.image_jpeg, portrait.face_jpeg, metadata)


def _rounded(values: tuple[float, ...], digits: int = 2) -> list[float]:
    return [round(v, digits) for v in values]
