"""Makes the demo's photos: several views of each person in pictures that installed packages carry.

The pictures stay where pip put them; the views go to an output folder and never into the repository.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from crawl.errors import InputError
from filter.config import FilterConfig
from filter.faces import Box
from filter.models import load_detector

VIEWS = 8
SIDE_PX = 512
"""Of each view."""
_PICTURES = (
    ("group", "insightface", "insightface/data/images/t1.jpg"),
    ("portrait", "insightface", "insightface/data/images/Tom_Hanks_54745.png"),
    ("astronaut", "scikit-image", "skimage/data/astronaut.png"),
)
_WRONG = (("group-1", "astronaut"), ("group-4", "portrait"))
"""(whose folder, who is planted there)."""


def make_photos(root: Path, views: int = VIEWS, side_px: int = SIDE_PX, seed: int = 0) -> list[str]:
    """Write `root/PERSON/view-N.jpg`; returns the planted photos' paths relative to `root`."""
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(seed)
    people = _people()
    for person, (picture, face) in people.items():
        for number in range(views):
            _save(_view(picture, face, side_px, rng), root / person / f"view-{number}.jpg")
    planted = []
    for folder, impostor in _WRONG:
        path = root / folder / "planted.jpg"
        _save(_view(*people[impostor], side_px, rng), path)
        planted.append(path.relative_to(root).as_posix())
    return planted


def _people() -> dict[str, tuple[Image.Image, Box]]:
    detector = load_detector(FilterConfig(models="embedded"))
    people = {}
    for name, package, file in _PICTURES:
        picture = Image.open(carried(package, file)).convert("RGB")
        if picture.width < SIDE_PX:
            picture = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        faces = sorted(detector.detect(np.asarray(picture), 64), key=lambda f: f.box_xyxy_px)
        wanted = faces if name == "group" else sorted(faces, key=lambda f: -f.score)[:1]
        for number, face in enumerate(wanted, start=1):
            people[f"{name}-{number}" if name == "group" else name] = (picture, face.box_xyxy_px)
    return people


def carried(package: str, file: str) -> Path:
    """A file that a package carries, found without importing the package."""
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"{package}: not installed: the demo needs pip install personae[demo]") from None


def _view(picture: Image.Image, face: Box, side_px: int, rng: np.random.Generator) -> Image.Image:
    """A view as another photo of the same moment would be: other framing, side, tilt, light and sharpness."""
    left, top, right, bottom = face
    width = right - left
    side = width * rng.uniform(2.2, 3.4)
    shift_x, shift_y = rng.uniform(-0.35, 0.35, 2) * width
    centre = ((left + right) / 2 + shift_x, (top + bottom) / 2 + shift_y + 0.3 * width)
    view = _cut(picture, centre, side, side_px, rng.uniform(-10, 10))
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:  # photos of one sharpness would count as one and the same
        coarse = round(max(0.4 * side_px, width))
        view = view.resize((coarse, coarse), Image.Resampling.BOX).resize((side_px, side_px), Image.Resampling.BICUBIC)
    view = ImageEnhance.Brightness(view).enhance(rng.uniform(0.7, 1.3))
    return ImageEnhance.Contrast(view).enhance(rng.uniform(0.85, 1.15))


def _cut(picture: Image.Image, centre: tuple[float, float], side: float, side_px: int, degrees: float) -> Image.Image:
    """A square of the picture around `centre`, turned; what lies outside it repeats its edge."""
    pad = round(side)
    padded = np.pad(np.asarray(picture), ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    to_picture: npt.NDArray[np.float64] = _rotation(degrees) * (side / side_px)
    origin = np.array(centre) + pad - to_picture @ np.array([side_px / 2, side_px / 2])
    matrix = (*to_picture[0], origin[0], *to_picture[1], origin[1])
    return Image.fromarray(padded).transform(
        (side_px, side_px), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )


def _rotation(degrees: float) -> npt.NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _save(view: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    view.save(path, quality=92)
