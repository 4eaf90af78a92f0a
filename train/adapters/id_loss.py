"""PuLID's ID loss: 1 − cos(φ(C_id), φ(x_0)) of drawn pictures, through a frozen recogniser φ.

The face is found without gradients, then cut by a warp that passes them. (One source writes the loss as the cosine
itself: a slip of the sign.) Source: arXiv 2404.16022, eq. 8. Knows no UNet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crawl.decode import Image
from filter.align import ARCFACE_SIZE_PX, ARCFACE_TEMPLATE, Matrix, inverse, shrinkage, similarity
from filter.config import FilterConfig
from filter.faces import Point
from filter.models import load_detector, min_face_score
from train.recognisers import Recogniser

FindFace = Callable[[Image], Sequence[Point] | None]
"""A picture → its face's five landmarks in pixels, or None."""
SMALLEST_SHARE = 8
"""A face is at least 1/8 of the picture's side."""
_CENTRE_SHARE = 0.5


class IdLoss:
    """See the module."""

    def __init__(self, recogniser: Recogniser, find_face: FindFace) -> None:
        self.recogniser, self._find_face = recogniser, find_face

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in [−1, 1] and unit vectors [B, E] → the loss [B], and bool [B]: a face was found.

        The loss of a picture without a face is 0, without a gradient.
        """
        places = [self._find_face(picture) for picture in as_pictures(images)]
        seen = {row: place for row, place in enumerate(places) if place is not None}
        losses, rows = images.new_zeros(len(images)), torch.tensor(list(seen), dtype=torch.long, device=images.device)
        if seen:
            faces = torch.stack([aligned_face((images[row] + 1) / 2, place) for row, place in seen.items()])
            cosines = (self.recogniser(faces.clamp(0, 1)) * targets[rows]).sum(dim=-1)
            losses = losses.index_put((rows,), 1 - cosines)
        return losses, torch.zeros_like(losses, dtype=torch.bool).index_fill(0, rows, True)


def aligned_face(image: Tensor, landmarks_px: Sequence[Point], size_px: int = ARCFACE_SIZE_PX) -> Tensor:
    """[3, H, W] → [3, size, size] on ArcFace's template; as `filter.align.aligned`, and differentiable."""
    template = [(x * size_px / ARCFACE_SIZE_PX, y * size_px / ARCFACE_SIZE_PX) for x, y in ARCFACE_TEMPLATE]
    return warp(image, inverse(similarity(landmarks_px, template)), size_px)


def warp(image: Tensor, to_photo: Matrix, size_px: int) -> Tensor:
    """The square crop [C, size, size] whose pixels `to_photo` takes into the image; zero where it ends.

    Box-averaged before bilinear sampling where the image is much larger than the crop.
    """
    shrink = shrinkage(to_photo)
    reduced = functional.avg_pool2d(image[None], shrink, ceil_mode=True, count_include_pad=False) if shrink > 1 \
        else image[None]  # fmt: skip
    height, width = reduced.shape[2:]
    matrix = torch.from_numpy(to_photo / shrink).to(image)
    centres = torch.arange(size_px).to(image) + 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ matrix.T
    grid = 2 * places / places.new_tensor([width, height]) - 1
    return functional.grid_sample(reduced, grid[None], align_corners=False)[0]


def as_pictures(images: Tensor) -> list[Image]:
    """[B, 3, H, W] in [−1, 1] → uint8 H × W × 3 each, detached."""
    pixels = ((images.detach() / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    return list(pixels.cpu().numpy())


def as_faces(pictures: Tensor) -> Tensor:
    """Face crops uint8 [B, 3, R, R] → float [B, 3, 112, 112] in [0, 1], as they are, not aligned."""
    return functional.interpolate(pictures.float() / 255, (ARCFACE_SIZE_PX,) * 2, mode="bilinear", antialias=True)


def detected(config: FilterConfig) -> FindFace:
    """The largest face by the configured detector. Raises InputError for missing weights."""
    detector, least = load_detector(config), min_face_score(config)

    def find(picture: Image) -> Sequence[Point] | None:
        faces = [face for face in detector.detect(picture, min(picture.shape[:2]) // SMALLEST_SHARE)
                 if face.score >= least]  # fmt: skip
        return max(faces, key=lambda face: face.side_px).landmarks_px if faces else None

    return find


def centred(picture: Image) -> Sequence[Point]:
    """ArcFace's template over the middle half, whoever is there: for bases too small to show a face."""
    height, width = picture.shape[:2]
    side = _CENTRE_SHARE * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    points = np.asarray(ARCFACE_TEMPLATE) * side / ARCFACE_SIZE_PX + (left, top)
    return tuple((float(x), float(y)) for x, y in points)
