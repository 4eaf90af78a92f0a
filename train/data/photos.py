"""One photo of a dataset, decoded when it is asked for: pixels, masks, time ids, keypoints. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from crawl.decode import Image
from filter.faces import Point
from shards.encoders.inputs import as_tensor, crop_image, face_image, landmarks_px, resized
from shards.format.sample import Sample

KEYPOINTS = 12


class Photo:
    """Lives as long as its batch. What cannot be read or decoded raises ShardError naming the shard."""

    def __init__(self, key: str, position: int, shard: str, side_px: int, read: Callable[[], Sample]) -> None:
        self.key, self.position = key, position
        self._shard, self._side_px, self._read = shard, side_px, read

    @cached_property
    def sample(self) -> Sample:
        return self._read()

    @property
    def metadata(self) -> dict[str, Any]:
        return self.sample.metadata

    @property
    def scale(self) -> float:
        """Target pixels per pixel of the crop."""
        return self._side_px / float(self.metadata["size_px"])

    @cached_property
    def crop(self) -> Image:
        """The training crop as it is in the shard."""
        return crop_image(self.sample, self._shard)

    @property
    def landmarks_px(self) -> tuple[Point, ...]:
        """Of `crop`."""
        return landmarks_px(self.sample)

    def target(self) -> Tensor:
        """The training crop, uint8 [3, S, S]."""
        return as_tensor(resized(self.crop, self._side_px))

    def face(self) -> Tensor:
        """The face crop as it is in the shard, uint8 [3, R, R]."""
        return as_tensor(face_image(self.sample, self._shard))

    def face_at(self, side_px: int) -> Tensor:
        """The face crop at another side, uint8 [3, side, side]."""
        return as_tensor(resized(face_image(self.sample, self._shard), side_px))

    def time_ids(self) -> Tensor:
        """SDXL's micro-conditioning [6]: original h, w; crop top, left at the target's scale; target h, w."""
        height, width = self.metadata["original_size"]
        top, left = (round(value * self.scale) for value in self.metadata["crop_top_left"])
        return torch.tensor([height, width, top, left, self._side_px, self._side_px], dtype=torch.float32)

    def face_mask(self, side: int) -> Tensor:
        """The face box on a latent grid, float32 [1, side, side]: every cell it touches, one at least."""
        cells = [value * side / float(self.metadata["size_px"]) for value in self.metadata["face_xyxy_px"]]
        left, top = (min(max(int(value), 0), side - 1) for value in cells[:2])
        right, bottom = (min(max(math.ceil(value), 0), side) for value in cells[2:])
        mask = torch.zeros(1, side, side)
        mask[:, top : max(bottom, top + 1), left : max(right, left + 1)] = 1
        return mask

    def keypoints(self) -> Tensor:
        """[12, 3]: x, y in 0–1 of the crop, visibility; zero where a point is unknown or outside."""
        found, scores = self.metadata.get("keypoints"), self.metadata.get("keypoint_scores")
        if not found:
            return torch.zeros(KEYPOINTS, 3)
        places = torch.tensor(found, dtype=torch.float32) / float(self.metadata["size_px"])
        visible = torch.tensor(scores, dtype=torch.float32) if scores else torch.ones(KEYPOINTS)
        inside = ((places >= 0) & (places <= 1)).all(dim=1)
        return torch.cat([places, visible[:, None]], dim=1) * inside[:, None]
