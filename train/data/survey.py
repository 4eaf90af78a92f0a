"""One look at every photo before training: can the dataset give what the adapter needs, and can all of it be read.

Knows nothing of models; reads every tar once, which also checks it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

from crawl.command import Bars
from crawl.errors import InputError
from shards.format.tar import ShardError
from shards.read import Dataset
from train.adapters.adapter import Needs

MOST_LOST = 0.001
"""Share of photos in bad shards that `on_bad_shard: skip` puts up with."""
_ALWAYS = ("size_px", "original_size", "crop_top_left", "face_xyxy_px", "general", "background", "body")
_LANDMARKS = 5


def survey(
    dataset: Dataset, name: str, positions: Iterable[int], needs: Needs, on_bad_shard: Literal["raise", "skip"]
) -> dict[int, str]:
    """Positions of photos in bad shards → what is wrong with the shard.

    Raises ShardError for a bad shard, unless it is to be skipped; InputError naming key and field for what is lacking.
    """
    lost: dict[int, str] = {}
    lacking = _Lacking(name, needs)
    positions = list(positions)
    with Bars() as bars:
        for position in positions:
            try:
                lacking.look(dataset.sample(dataset.index.keys[position].decode()).metadata)
            except ShardError as error:
                if on_bad_shard == "raise":
                    raise
                lost[position] = str(error)
            if os.environ.get("RANK", "0") == "0":
                bars.expect("check", len(positions))
                bars.tick("check", 1)
    if len(lost) > MOST_LOST * len(dataset):
        reason = next(iter(lost.values()))
        raise InputError(f"{reason}; {len(lost)} of {len(dataset)} photos are lost, at most 0.1 % may be")
    lacking.end()
    return lost


class _Lacking:
    """What the adapter needs and a photo's JSON has not."""

    def __init__(self, dataset: str, needs: Needs) -> None:
        self._dataset, self._needs = dataset, needs
        self._some = {"background": "background" in needs.parts, "keypoints": needs.keypoints}
        """What single photos may lack (a plain background has no words) but not all of them → still to be seen."""
        self._first: dict[str, Any] | None = None

    def look(self, metadata: dict[str, Any]) -> None:
        """Raises InputError naming key and field."""
        self._first = self._first or metadata
        for field in _ALWAYS:
            if field not in metadata:
                self._refuse(metadata, f"has no {field}")
        for part in self._needs.parts:
            if part not in self._some and not metadata[part].strip():
                self._refuse(metadata, f"{part} is empty, and the adapter needs this part of the caption")
        if self._needs.face and len(metadata.get("landmarks_px") or ()) != _LANDMARKS:
            self._refuse(metadata, "has no landmarks_px, and the adapter needs face embeddings")
        for field, wanted in self._some.items():
            known = metadata.get(field) and not (field == "keypoints" and metadata.get("keypoints_reason"))
            self._some[field] = wanted and not known

    def end(self) -> None:
        for field, wanted in self._some.items():
            if wanted and self._first is not None:
                reason = self._first.get("keypoints_reason") if field == "keypoints" else ""
                because = f" ({reason})" if reason else ""
                self._refuse(self._first, f"has no {field}{because}, nor has any other; the adapter needs it")

    def _refuse(self, metadata: dict[str, Any], reason: str) -> None:
        raise InputError(f"data.dataset: {self._dataset}: {metadata['key']}: {reason}")
