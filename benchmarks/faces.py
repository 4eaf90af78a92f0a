"""Detectors and embedders on real photos, found and told apart, one thread: `python -m benchmarks.faces [SHARED]`.

Prints Markdown; with `--fit`, the coefficients of `filter.backends.embedded.NOSE_MAP` and their errors instead.
SHARED defaults to `PERSONAE_SHARED`, then to `../shared`. How thresholds follow is benchmarks/roc.py.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from benchmarks.shared_photos import EMBEDDERS, default_folder
from filter.backends.embedded import DESCRIPTOR_RADIUS, HogDetector, NoseMap, eyes, five_landmarks
from filter.config import FilterConfig
from filter.faces import Box, Face, Image
from filter.models import DLIB_LANDMARKS_5, load_detector, load_embedder, min_face_score
from filter.weights import weights_path

Floats = npt.NDArray[np.float64]
RADII = (1.6, 2.0, 4.0)
LEAST_OVERLAP = 0.3
LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")


@dataclass
class Measured:
    """One detector with one embedder, over all photos."""

    photos: int = 0
    other_faces: int = 0
    detect_s: float = 0.0
    embed_s: float = 0.0
    names: list[str] = field(default_factory=list)
    rows: list[npt.NDArray[np.float32]] = field(default_factory=list)


def main() -> None:
    """Print the tables or the fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", nargs="?", type=Path, default=default_folder())
    parser.add_argument("--fit", action="store_true", help="fit the map from dlib's five points to ArcFace's")
    arguments = parser.parse_args()
    os.environ.setdefault("PERSONAE_CACHE", str(arguments.shared / "models"))
    photos = known_faces(arguments.shared)
    if arguments.fit:
        print_fit(photos)
    else:
        print_tables(photos)


def print_tables(photos: list[tuple[str, Image, Box]]) -> None:
    """The table of pairs, then how dlib's descriptor is best compared."""
    print(
        "| detector + embedder | found | other faces | detect ms | embed ms | AUC | TAR@1e-2 | TAR@1e-3 | same | two |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for models in EMBEDDERS:
        for embedder in EMBEDDERS:
            measured = measure(photos, FilterConfig(models=models, embedder=embedder))
            print(as_row(f"{models} + {embedder}", measured), flush=True)
            if models == embedder == "embedded":
                descriptors = measured
    print("\n| dlib's descriptor compared by | AUC | TAR@1e-2 | TAR@1e-3 |\n|---|---|---|---|")
    for name, scores in comparisons(np.array(descriptors.rows, np.float64)[:, :-1] * DESCRIPTOR_RADIUS).items():
        auc, at_2, at_3 = roc(scores, descriptors.names)[:3]
        print(f"| {name} | {auc:.4f} | {at_2:.3f} | {at_3:.3f} |")


def known_faces(shared: Path) -> list[tuple[str, Image, Box]]:
    """Identity, photo and labelled box; near-duplicates left out."""
    with open(shared / "photos" / "identities.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if not row["near_dup_of"]]
    known = []
    for row in rows:
        with PillowImage.open(shared / "photos" / "identities" / row["file"]) as file:
            left, top, right, bottom = (float(v) for v in row["target_box"].split())
            known.append((row["identity"], np.asarray(file.convert("RGB")), (left, top, right, bottom)))
    return known


def measure(photos: list[tuple[str, Image, Box]], config: FilterConfig) -> Measured:
    """Detect with the labelled face's side, at most 256 px, as `min_face_px`; embed the labelled face."""
    detector, embedder, measured = load_detector(config), load_embedder(config), Measured()
    for name, image, box in photos:
        start = time.perf_counter()
        found = detector.detect(image, min(256, int(Face(box, (), 0.0).side_px)))
        middle = time.perf_counter()
        sure = [face for face in found if face.score >= min_face_score(config)]
        right = [face for face in sure if _overlap(face.box_xyxy_px, box) >= LEAST_OVERLAP][:1]
        measured.rows += list(embedder.embed(image, right))
        measured.embed_s += time.perf_counter() - middle
        measured.detect_s += middle - start
        measured.names += [name] * len(right)
        measured.photos += 1
        measured.other_faces += len(sure) - len(right)
    return measured


def as_row(title: str, m: Measured) -> str:
    rows = np.array(m.rows, np.float64)
    auc, at_2, at_3, same, two = roc(rows @ rows.T, m.names)
    detect_ms, embed_ms = 1000 * m.detect_s / m.photos, 1000 * m.embed_s / len(rows)
    return (
        f"| {title} | {len(rows)} of {m.photos} | {m.other_faces} | {detect_ms:.0f} | {embed_ms:.0f} "
        f"| {auc:.4f} | {at_2:.3f} | {at_3:.3f} | {same:.3f} | {two:.3f} |"
    )


def comparisons(descriptors: Floats) -> dict[str, Floats]:
    """Similarity matrices of dlib's plain descriptors."""
    lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
    centred = descriptors - descriptors.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    found = {
        "Euclidean distance": -np.linalg.norm(descriptors[:, None] - descriptors[None], axis=2),
        "cosine": (descriptors / lengths) @ (descriptors / lengths).T,
        "cosine, mean of these photos subtracted": centred @ centred.T,
    }
    for radius in RADII:
        up = np.column_stack([descriptors, np.sqrt(np.maximum(radius**2 - lengths**2, 0))]) / radius
        found[f"cosine, lifted with R = {radius}"] = up @ up.T
    return found


def roc(similarity: Floats, names: list[str]) -> tuple[float, float, float, float, float]:
    """AUC, share of right pairs accepted at 1 % and 0.1 % false ones, mean of right and of wrong pairs."""
    pairs = np.triu_indices(len(names), 1)
    same = np.equal.outer(np.array(names), np.array(names))[pairs]
    right, wrong = similarity[pairs][same], np.sort(similarity[pairs][~same])
    auc = float(np.searchsorted(wrong, right).mean() / len(wrong))
    at_2, at_3 = (float((right > np.quantile(wrong, 1 - rate)).mean()) for rate in (1e-2, 1e-3))
    return auc, at_2, at_3, float(right.mean()), float(wrong.mean())


def print_fit(photos: list[tuple[str, Image, Box]]) -> None:
    """Coefficients over all photos; errors of each identity's photos by the fit over the others."""
    names, shapes, targets = eye_frame_pairs(photos)
    print(f"{len(names)} faces of {len(set(names))} people: {fit_nose_map(shapes, targets)}")
    found = np.empty_like(targets)
    for name in set(names):
        held_out = np.array(names) == name
        nose_map = fit_nose_map(shapes[~held_out], targets[~held_out])
        found[held_out] = [in_eye_frame(shape, five_landmarks(shape, nose_map)) for shape in shapes[held_out]]
    errors = np.linalg.norm(found - targets, axis=2)
    print("\n| landmark | mean error, inter-eye distances | 90 % below |\n|---|---|---|")
    for landmark, error in zip(LANDMARKS, errors.T, strict=True):
        print(f"| {landmark} | {error.mean():.3f} | {np.quantile(error, 0.9):.3f} |")
    besides = [points[:, 2, 0] - points[:, :2, 0].mean(1) for points in (found, targets)]
    print(f"\nCorrelation of the nose tip's place beside the eyes' middle: {np.corrcoef(besides)[0, 1]:.3f}")


def eye_frame_pairs(photos: list[tuple[str, Image, Box]]) -> tuple[list[str], Floats, Floats]:
    """Of every labelled face that both detectors find: its identity; dlib's own five points (5 × 2, pixels);
    RetinaFace-MobileNet's five landmarks in the frame of dlib's eyes (5 × 2)."""
    dlib, retinaface = HogDetector(weights_path(DLIB_LANDMARKS_5)), load_detector(FilterConfig(models="open"))
    names, shapes, targets = [], [], []
    for name, image, box in photos:
        least = min(256, int(Face(box, (), 0.0).side_px))
        pair = [
            [f for f in finder.detect(image, least) if _overlap(f.box_xyxy_px, box) >= LEAST_OVERLAP][:1]
            for finder in (dlib, retinaface)
        ]
        if all(pair):
            (ours,), (theirs,) = pair
            names.append(name)
            shapes.append(dlib.shape_px(image, ours.box_xyxy_px))
            targets.append(in_eye_frame(shapes[-1], theirs.landmarks_px))
    return names, np.array(shapes), np.array(targets)


def in_eye_frame(shape_px: Floats, points_px: npt.ArrayLike) -> Floats:
    """Points (n × 2) in the frame of `NoseMap`, whose eyes are those of dlib's five points."""
    left, right = eyes(shape_px)
    placed = (np.asarray(points_px) @ (1, 1j) - (left + right) / 2) / (right - left)
    return np.column_stack([placed.real, placed.imag])


def fit_nose_map(shapes_px: Floats, targets: Floats) -> NoseMap:
    """Least squares; a face and its mirror image weigh the same, so sideways there is no constant."""
    u, v = np.array([in_eye_frame(shape, shape[4:])[0] for shape in shapes_px]).T
    tip, mouth = targets[:, 2], targets[:, 3:].mean(1)
    (tip_v, tip_y), (mouth_v, mouth_y) = np.polyfit(v, tip[:, 1], 1), np.polyfit(v, mouth[:, 1], 1)
    half = float((targets[:, 4, 0] - targets[:, 3, 0]).mean() / 2)
    tip_u, mouth_u = u @ tip[:, 0] / (u @ u), u @ mouth[:, 0] / (u @ u)
    return NoseMap(*(round(float(c), 3) for c in (tip_u, tip_y, tip_v, mouth_u, mouth_y, mouth_v, half)))


def _overlap(one: Box, other: Box) -> float:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


if __name__ == "__main__":
    main()
