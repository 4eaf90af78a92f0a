"""The shared real photos as faces with known owners: read, detected and embedded once per run, kept nowhere.

The folder holds `photos/identities.csv` (file, identity, target_box, near_dup_of), `photos/identities/` and
`models/`. Near-duplicates are left out: those the table names, and copies the rules would count once.
"""

from __future__ import annotations

import csv
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from filter.config import FilterConfig
from filter.faces import Box, Embeddings, Face
from filter.models import EMBEDDERS as EMBEDDERS_TABLE
from filter.models import load_detector, load_embedder
from filter.rules.group import Limits, first_of_its_kind

EMBEDDERS = ("embedded", "open")
MIN_FACE_PX = 64
"""The photos from LFW are 250 px wide, their faces about 100."""
_LEAST_OVERLAP = 0.3


@dataclass(frozen=True, slots=True)
class KnownPhoto:
    """A photo whose person is known."""

    key: str
    identity: str
    embeddings: Embeddings
    sides_px: tuple[float, ...]
    scores: tuple[float, ...]
    right: int
    """Index of the face that is the identity's."""

    @property
    def embedding(self) -> npt.NDArray[np.float32]:
        """Of the right face."""
        row: npt.NDArray[np.float32] = self.embeddings[self.right]
        return row


def default_folder() -> Path:
    """`PERSONAE_SHARED`, or `shared` beside the repository."""
    return Path(os.environ.get("PERSONAE_SHARED") or Path(__file__).resolve().parents[2] / "shared")


@functools.cache
def known_photos(shared: Path, embedder: str) -> list[KnownPhoto]:
    """Photos in which the right face is found, by identity and file name."""
    os.environ.setdefault("PERSONAE_CACHE", str(shared / "models"))
    config = FilterConfig(models=embedder, min_face_px=MIN_FACE_PX)
    detect, embed = load_detector(config).detect, load_embedder(config).embed
    known = []
    with open(shared / "photos" / "identities.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if not row["near_dup_of"]]
    for row in sorted(rows, key=lambda r: (r["identity"], r["file"])):
        target = _box(row["target_box"])
        with PillowImage.open(shared / "photos" / "identities" / row["file"]) as file:
            image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
        # The known box spares enlarging big photos in search of small faces.
        sought_px = max(MIN_FACE_PX, round(0.8 * min(target[2] - target[0], target[3] - target[1])))
        faces = [f for f in detect(image, sought_px) if f.side_px >= MIN_FACE_PX]
        right = _right_face(faces, target)
        if right is not None:
            sides, scores = tuple(f.side_px for f in faces), tuple(f.score for f in faces)
            known.append(KnownPhoto(row["file"], row["identity"], embed(image, faces), sides, scores, right))
    return _without_copies(known, embedder)


def by_identity(photos: list[KnownPhoto], least: int = 1) -> dict[str, list[KnownPhoto]]:
    """Identities with at least so many photos."""
    groups: dict[str, list[KnownPhoto]] = {}
    for photo in photos:
        groups.setdefault(photo.identity, []).append(photo)
    return {name: group for name, group in groups.items() if len(group) >= least}


def _box(text: str) -> Box:
    left, top, right, bottom = (float(v) for v in text.split())
    return left, top, right, bottom


def _without_copies(photos: list[KnownPhoto], embedder: str) -> list[KnownPhoto]:
    entry = EMBEDDERS_TABLE[embedder]
    leader = first_of_its_kind(
        np.stack([p.embedding for p in photos]), Limits(entry.threshold, entry.pair_threshold).duplicate_cosine
    )
    return [photo for i, photo in enumerate(photos) if leader[i] == i]


def _right_face(faces: list[Face], target: Box) -> int | None:
    overlaps = [_overlap(face.box_xyxy_px, target) for face in faces]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return best if overlaps and overlaps[best] >= _LEAST_OVERLAP else None


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / (_area(one) + _area(other) - both)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
