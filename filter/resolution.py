"""Measures of the whole photo, and the thresholds on them.

Sharpness and hashes are taken on a copy reduced to 512 px, so that they mean the same at every
resolution. Knows nothing of faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from crawl.photo import Rejection
from filter.config import FilterConfig

STAGE = "resolution"
Band = npt.NDArray[np.uint8]
"""height × width."""
_MEASURED_AT_PX = 512
_HASH_ROWS, _HASH_COLUMNS = 8, 9


@dataclass(frozen=True, slots=True)
class Measures:
    """What can be said of a photo without looking for faces."""

    height_px: int
    width_px: int
    sharpness: float
    """Variance of the 4-neighbour Laplacian of the grey photo (0–255) at 512 px on its long side."""
    colourfulness: float
    """Mean over pixels of max(R, G, B) − min(R, G, B), 0–1; 0 for a grey-scale photo."""
    dhash: int
    """64-bit difference hash: 8 rows of 8 comparisons of neighbouring columns."""
    mirrored_dhash: int
    """The difference hash of the mirrored photo."""


def measure(photo: PILImage.Image) -> Measures:
    """Measure an upright photo (mode RGB)."""
    width, height = photo.size
    small = photo.reduce(max(1, max(height, width) // _MEASURED_AT_PX))
    grey = _at_most(small.convert("L"), _MEASURED_AT_PX)
    grid = np.asarray(grey.resize((_HASH_COLUMNS, _HASH_ROWS), PILImage.Resampling.BOX), dtype=np.int16)
    return Measures(
        height_px=height,
        width_px=width,
        sharpness=_laplacian_variance(np.asarray(grey)),
        colourfulness=_mean_spread(*(np.asarray(band) for band in small.split())) / 255,
        dhash=_bits(grid[:, 1:] > grid[:, :-1]),
        mirrored_dhash=_bits(grid[:, -2::-1] > grid[:, :0:-1]),
    )


def check_resolution(measures: Measures, config: FilterConfig) -> Rejection | None:
    """The first threshold that the photo misses, None when it misses none."""
    short, long = sorted((measures.height_px, measures.width_px))
    floors: list[tuple[str, float, float | None]] = [
        ("short_side", short, config.min_side_px),
        ("megapixels", short * long / 1e6, config.min_megapixels),
        ("blurred", measures.sharpness, config.min_sharpness),
        ("grey_scale", measures.colourfulness, config.min_colourfulness),
    ]
    for reason, value, least in floors:
        if least is not None and value < least:
            return Rejection(STAGE, reason, float(value), float(least))
    if config.max_aspect_ratio is not None and long / short > config.max_aspect_ratio:
        return Rejection(STAGE, "aspect_ratio", long / short, config.max_aspect_ratio)
    return None


def _at_most(grey: PILImage.Image, long_side_px: int) -> PILImage.Image:
    scale = min(1.0, long_side_px / max(grey.size))
    size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
    return grey.resize(size, PILImage.Resampling.BOX) if size != grey.size else grey


def _mean_spread(red: Band, green: Band, blue: Band) -> float:
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return _total(spread) / spread.size


def _laplacian_variance(grey: Band) -> float:
    """In whole numbers up to the division: as exact as float64 and with half of float32's memory to walk through."""
    if min(grey.shape) < 3:
        return 0.0
    level = grey.astype(np.int16)
    edges = level[1:-1, :-2] + level[1:-1, 2:]
    edges += level[:-2, 1:-1]
    edges += level[2:, 1:-1]
    edges -= 4 * level[1:-1, 1:-1]
    mean = _total(edges) / edges.size
    return _total(np.multiply(edges, edges, dtype=np.int32)) / edges.size - mean * mean


def _total(values: npt.NDArray[Any]) -> int:
    """The sum, by columns first: 512 squares of a Laplacian (≤ 1020) fit into 32 bits, all of them do not."""
    return int(values.sum(axis=0, dtype=np.int32).sum(dtype=np.int64))


def _bits(comparisons: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(comparisons).tobytes(), "big", signed=True)
