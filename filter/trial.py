"""`python -m filter try CONFIG.yaml PHOTO …`: what the filter makes of single photos, said and drawn.

The named person is sought among the people whom the run has verified so far; where there are none, the best face
stands in. Nothing of the dataset is changed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from crawl.collect import PEOPLE
from crawl.config import load
from crawl.decode import decode_picture
from crawl.errors import InputError
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Rejection
from crawl.tables import Tables
from filter.backends.classifier import Classifier
from filter.classify import judged
from filter.config import FilterConfig, FilterRun
from filter.crop import Square, face_square, training_square
from filter.decide import IDENTITIES
from filter.faces import Embeddings, Face, Image
from filter.keypoints import VISIBLE, PoseEstimator
from filter.models import embedder_spec, licences, load_detector, load_embedder, load_pose
from filter.overlay import Findings, drawn
from filter.resolution import check_resolution, measure
from filter.scan import counting
from filter.verify import IdentityFinding

_OVERRIDE = re.compile(r"[a-z_]+(?:\.[a-z_]+)+=|output=")
_FOLDER = "tried"


def try_command(arguments: Sequence[str]) -> int:
    """Print what is found in each photo and write a PNG of it. Exit code 1 when one of them is no photo."""
    parser = argparse.ArgumentParser(
        prog="python -m filter try", description="Say and draw what the filter makes of single photos."
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="a run file")
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="a file; key=value overrides may stand among them")
    parser.add_argument("--to", metavar="FOLDER", default=_FOLDER, help=f"where the PNGs go (default: {_FOLDER})")
    parsed = parser.parse_args(arguments)
    overrides = [given for given in parsed.photos if _OVERRIDE.match(given) and not os.path.exists(given)]
    paths = [Path(given) for given in parsed.photos if given not in overrides]
    run = load(FilterRun, parsed.config, overrides)
    targets = _targets(paths, Path(parsed.to))
    for line in licences(run.filter):
        print(line, file=sys.stderr)
    trial, bad = Trial(run.filter, known_people(run)), 0
    for path, target in zip(paths, targets, strict=True):
        lines, picture = trial.look(path.read_bytes())
        print("\n".join([f"{path}: {lines[0]}", *(f"  {line}" for line in lines[1:])]))
        if picture is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target)
            print(f"  drawn: {target}")
        bad += picture is None
    return int(bad > 0)


@dataclass(frozen=True, slots=True)
class Known:
    """People whom the run has verified."""

    names: tuple[str, ...]
    centres: Embeddings
    """One unit row each."""


def known_people(run: FilterRun) -> Known:
    """Of the run's own tables; nobody when nothing is verified yet."""
    tables = Tables(Output(run.output))
    names: dict[str, str] = {}
    found: list[IdentityFinding] = []
    for bucket in range(run.shards.buckets):
        names.update({e.key: e.row.name for e in tables.read(PEOPLE, bucket, Person) if e.row is not None})
        found += [e.row for e in tables.read(IDENTITIES, bucket, IdentityFinding) if e.row is not None]
    sure = {names.get(row.identity, row.identity): row.centre for row in found if row.centre is not None}
    dimensions = embedder_spec(run.filter).dimensions
    if any(len(centre) != dimensions for centre in sure.values()):
        raise InputError(f"{run.output}: was verified with another embedder than {run.filter.embedder_name}")
    return Known(tuple(sure), np.array(list(sure.values()), np.float32).reshape(len(sure), dimensions))


class Trial:
    """The configured models, and what they make of one photo."""

    def __init__(self, config: FilterConfig, known: Known) -> None:
        self._config, self._known = config, known
        self._detector, self._embedder = load_detector(config), load_embedder(config)
        self._classifiers = [(c, Classifier(c)) for c in config.classifiers]
        self._pose: PoseEstimator | None = None if config.pose == "none" else load_pose(config)

    def look(self, content: bytes) -> tuple[list[str], PILImage.Image | None]:
        """Lines that say it, and the picture; None for what is no photo."""
        photo = decode_picture(content)
        if isinstance(photo, Rejection):
            return [in_words(photo)], None
        measures = measure(photo)
        lines = [
            f"{photo.width} × {photo.height} px, sharpness {measures.sharpness:.0f}, "
            f"colourfulness {measures.colourfulness:.2f}"
        ]
        lines += [in_words(r) for r in [check_resolution(measures, self._config)] if r is not None]
        more, findings = self._find(photo)
        return lines + more, drawn(photo, findings)

    def _find(self, photo: PILImage.Image) -> tuple[list[str], Findings]:
        """What detector, embedder and pose model say, and what there is to draw."""
        image = np.asarray(photo)
        found = self._detector.detect(image, self._config.min_face_px)
        faces = counting(found, self._config)
        if isinstance(faces, Rejection):
            return [f"{_faces(len(found))}; {in_words(faces)}"], Findings(found)
        face, label, line = self._whose(image, faces)
        lines = [f"{_faces(len(found))}, {len(faces)} of them count", line, *self._classes(photo)]
        findings = Findings(found, faces, face, label, self._crops(image, face))
        if self._pose is None:
            return lines, findings
        (pose,) = self._pose.estimate([photo], [face])
        if isinstance(pose, Rejection):
            return [*lines, f"pose: none, {pose.reason}{_numbers(pose)}"], findings
        seen = sum(score >= VISIBLE for score in pose.scores)
        line = f"pose: {seen} of {len(pose.scores)} keypoints are to be seen"
        return [*lines, line], replace(findings, pose=pose)

    def _classes(self, photo: PILImage.Image) -> list[str]:
        said = [(c.name, classifier.probabilities([photo])[0]) for c, classifier in self._classifiers]
        answer = judged([c for c, _ in self._classifiers], [p for _, p in said])
        lines = [f"{name}: {probability:.3f}" for name, probability in said]
        return [*lines, in_words(answer)] if isinstance(answer, Rejection) else lines

    def _crops(self, image: Image, face: Face) -> tuple[Square, Square]:
        (height, width), config, box = image.shape[:2], self._config, face.box_xyxy_px
        square = training_square(height, width, box, config.framing, config.min_face_share)
        return square, face_square(height, width, box)

    def _whose(self, image: Image, faces: list[Face]) -> tuple[Face, str, str]:
        """The verified face or the best one; what to write beside it; what to say."""
        if not self._known.names:
            label = f"score {faces[0].score:.2f}"
            return faces[0], label, f"the best face: {_size(faces[0])}, {label}; nobody is verified yet to compare with"
        cosines = self._embedder.embed(image, faces) @ self._known.centres.T
        which, who = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
        cosine, chosen = float(cosines[which, who]), self._config.verify.threshold
        least = embedder_spec(self._config).threshold if chosen is None else chosen
        label = f"{self._known.names[who]} {cosine:.2f}"
        verdict = "verified" if cosine >= least else "not_this_person"
        face = faces[which]
        return face, label, f"{verdict}: {_size(face)}, nearest to {label}, at least {least:.2f} asked for"


def in_words(rejection: Rejection) -> str:
    """A rejection as one line."""
    return f"rejected by {rejection.stage}: {rejection.reason}{_numbers(rejection)}"


def _numbers(rejection: Rejection) -> str:
    said = [f"{rejection.value:.4g}"] if rejection.value is not None else []
    said += [f"threshold {rejection.threshold:.4g}"] if rejection.threshold is not None else []
    return f" ({', '.join(said)})" if said else ""


def _faces(count: int) -> str:
    return f"{count} face{'' if count == 1 else 's'}"


def _size(face: Face) -> str:
    left, top, right, bottom = face.box_xyxy_px
    return f"{right - left:.0f} × {bottom - top:.0f} px"


def _targets(paths: list[Path], folder: Path) -> list[Path]:
    """A PNG for each photo. Raises InputError for no photos, missing ones, and ones that would be overwritten."""
    if not paths:
        raise InputError("no PHOTO is named")
    targets: list[Path] = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such photo")
        taken = sum(other.stem == path.stem for other in paths[: len(targets)])
        target = folder / f"{path.stem}{f'-{taken + 1}' if taken else ''}.png"
        if target.exists() and target.samefile(path):
            raise InputError(f"--to: {folder}: the drawing would overwrite {path}")
        targets.append(target)
    return targets
