"""The shared photos of whole bodies, with labelled keypoints and the faces that can be verified in them.

`photos/bodies/` holds photos and `coco_keypoints.json`, in COCO's format. The photos that COCO does not label were
labelled for this benchmark by eye, to about a hundredth of the body's height; they are counted apart.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from crawl.decode import decode_picture
from crawl.photo import Rejection
from filter.config import FilterConfig
from filter.faces import Box, Face, FaceDetector
from filter.keypoints import NAMES
from filter.models import load_detector, min_face_score

Points = npt.NDArray[np.float64]

SIGMAS = np.array([0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089])
"""COCO's, of keypoints 5–16."""
MIN_FACE_PX = {"COCO": 16, "eye": 48}
"""COCO's people are small; looking for small faces in large photos takes long."""
FIRST = 5
"""COCO's first five keypoints are of the face."""
AREA_OF_BOX = 0.37
"""Of a body's outline in its box, as in COCO's labels of the shared photo; for boxes without an outline."""
BY_EYE: dict[str, tuple[Box, tuple[float, float], list[tuple[float, float] | None]]] = {
    "human__person-linda.jpg": (
        (300, 90, 900, 1790), (580, 265),
        [(690, 435), (355, 430), (800, 535), (365, 690), (880, 425), (350, 910),
         (630, 880), (450, 880), (590, 1340), (480, 1330), (555, 1610), (490, 1590)],
    ),
    "human__person-tetiana.jpg": (
        (150, 90, 420, 1000), (273, 172),
        [(343, 288), (170, 280), (335, 415), (175, 420), (265, 530), (160, 545), (350, 520), (235, 520),
         None, None, None, None],
    ),
    "human__person-vlado1.jpg": (
        (360, 60, 650, 950), (485, 140),
        [(598, 228), (405, 235), (632, 375), (385, 390), (600, 480), (378, 500),
         (570, 495), (440, 500), (590, 700), (490, 690), (592, 885), (522, 865)],
    ),
    "human__stock-models-1.jpg": (
        (210, 190, 550, 1140), (413, 372),
        [(482, 420), (328, 420), (545, 320), (274, 322), (440, 282), (390, 270),
         (465, 690), (360, 690), (455, 850), (230, 760), (428, 1040), (365, 853)],
    ),
    "human__stock-models-10.jpg": (
        (230, 320, 490, 1280), (367, 425),
        [(462, 515), (275, 520), (478, 660), (248, 685), (430, 790), (295, 725),
         (410, 780), (290, 780), (375, 1015), (325, 1020), (355, 1230), (338, 1245)],
    ),
}  # fmt: skip
"""File → box of the body, tip of the nose, our 12 keypoints; None where crossed legs leave it open which is which."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled person; coordinates in pixels of `photo`."""

    name: str
    by: str
    """`COCO` or `eye`."""
    photo: PillowImage.Image
    box: Box
    area_px: float
    points: Points
    """12 × 2."""
    known: npt.NDArray[np.bool_]
    """12: labelled, seen or not."""
    face: Face | None
    """None: no face of this person is found, so that nobody could verify it."""


def labelled(folder: Path) -> list[Labelled]:
    """Every labelled person, COCO's first."""
    return [*_of_coco(folder), *_by_eye(folder)]


def oks(found: Sequence[tuple[float, float]], person: Labelled) -> float:
    """Object keypoint similarity over the labelled ones of our 12 (cocodataset.org, keypoint evaluation)."""
    squared = ((np.asarray(found) - person.points) ** 2).sum(1)
    similar = np.exp(-squared / (2 * person.area_px * (2 * SIGMAS) ** 2))
    return float(similar[person.known].mean())


def _of_coco(folder: Path) -> Iterator[Labelled]:
    document = json.loads((folder / "coco_keypoints.json").read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    for row in sorted(document["annotations"], key=lambda row: (names[row["image_id"]], row["id"])):
        points = np.array(row["keypoints"], float).reshape(-1, 3)
        known = points[:, 2] > 0
        if not known[FIRST:].any():
            continue
        left, top, width, height = row["bbox"]
        name, box = names[row["image_id"]], (left, top, left + width, top + height)
        head = points[:FIRST][known[:FIRST], :2]
        photo = _photo(folder / name)
        face = _face(photo, head.mean(0), MIN_FACE_PX["COCO"]) if len(head) else None
        yield Labelled(f"{name} {row['id']}", "COCO", photo, box, row["area"], points[FIRST:, :2], known[FIRST:], face)


def _by_eye(folder: Path) -> Iterator[Labelled]:
    for name, (box, nose, points) in BY_EYE.items():
        if (folder / name).is_file():
            photo, known = _photo(folder / name), np.array([point is not None for point in points])
            area = AREA_OF_BOX * (box[2] - box[0]) * (box[3] - box[1])
            places = np.array([point or (0.0, 0.0) for point in points])
            assert len(points) == len(NAMES)
            yield Labelled(
                name, "eye", photo, box, area, places, known, _face(photo, np.array(nose), MIN_FACE_PX["eye"])
            )


def _photo(path: Path) -> PillowImage.Image:
    picture = decode_picture(path.read_bytes())
    assert not isinstance(picture, Rejection), f"{path}: {picture}"
    return picture


def _face(photo: PillowImage.Image, head: npt.NDArray[Any], least_px: int) -> Face | None:
    """The face that counts and holds this point."""
    for face in _detector().detect(np.asarray(photo), least_px):
        left, top, right, bottom = face.box_xyxy_px
        if face.score >= min_face_score(_OPEN) and left <= head[0] <= right and top <= head[1] <= bottom:
            return face
    return None


@functools.cache
def _detector() -> FaceDetector:
    return load_detector(_OPEN)


_OPEN = FilterConfig(models="open")
