"""What encoders look at of a sample: the target crop at a side, the face crop, landmarks. Decoded strictly.

Knows nothing of models, and nothing of where samples lie.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from crawl.decode import Image, decode
from crawl.errors import InputError
from crawl.photo import Rejection
from filter.faces import Point
from shards.format.sample import Sample
from shards.format.tar import ShardError
from shards.read import Dataset


def target_side_px(dataset: Dataset, size_px: int | None, factor: int) -> int:
    """`size_px`, or the side of the dataset's first crop. Raises InputError unless the VAE's `factor` divides it."""
    side_px = size_px or int(dataset.sample(dataset.index.keys[0].decode()).metadata["size_px"])
    if side_px % factor:
        raise InputError(f"data.size_px: {side_px} is no multiple of {factor}, the VAE's pixels per latent")
    return side_px


def crop_image(sample: Sample, shard: str) -> Image:
    """`KEY.jpg`: `size_px` × `size_px` × 3. Raises ShardError, naming `shard`, when it does not decode."""
    return _decoded(sample.image_jpeg, f"{sample.key}.jpg", shard)


def face_image(sample: Sample, shard: str) -> Image:
    """`KEY.face.jpg`. Raises ShardError when it does not decode."""
    return _decoded(sample.face_jpeg, f"{sample.key}.face.jpg", shard)


def resized(image: Image, side_px: int) -> Image:
    """Box to within twice the size, then bicubic, as the crop was made."""
    if image.shape[:2] == (side_px, side_px):
        return image
    size = (side_px, side_px)
    return np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BICUBIC, reducing_gap=1.0))


def as_tensor(image: Image) -> Tensor:
    """H × W × 3 → uint8 [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def landmarks_px(sample: Sample) -> tuple[Point, ...]:
    """Five points in pixels of `KEY.jpg`."""
    return tuple((float(x), float(y)) for x, y in sample.metadata["landmarks_px"])


def _decoded(content: bytes, name: str, shard: str) -> Image:
    image = decode(content)
    if isinstance(image, Rejection):
        raise ShardError(shard, f"{name} does not decode: {image.reason}")
    return image
