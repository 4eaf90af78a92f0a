"""Face-Sim: cosines between a picture's face and a person's photos, by one embedder at a time.

The detector is the same for generated and real pictures; of several faces the largest counts. Knows no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from filter.faces import Face, FaceEmbedder, Image
from filter.models import embedder_spec, load_detector, load_embedder, min_face_score, model_names
from shards.encoders.inputs import crop_image, landmarks_px
from shards.format.sample import Sample
from train.evaluate.settings import EvaluateSettings

LEAST_SIDE_PX = 256
"""Smaller pictures are enlarged to this before a face is looked for, real ones alike."""
SMALLEST_FACE_PX = 48
Vector = npt.NDArray[np.float64]
Vectors = Mapping[str, Vector]
"""Embedder → unit vector."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A face, and what each embedder says of it."""

    face: Face
    """In pixels of `image`."""
    image: Image
    """The picture, enlarged where it was small."""
    vectors: Vectors

    def crop(self) -> PILImage.Image:
        """The square of the face box and a fifth more on each side, as far as there is picture."""
        left, top, right, bottom = self.face.box_xyxy_px
        height, width = self.image.shape[:2]
        half = 0.7 * max(right - left, bottom - top)
        x, y = (left + right) / 2, (top + bottom) / 2
        first = (round(max(0, x - half)), round(max(0, y - half)))
        last = (round(min(width, x + half)), round(min(height, y + half)))
        return PILImage.fromarray(self.image).crop((*first, *last))


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """What one embedder knows of a person."""

    reference: Vector
    """Mean of the references."""
    others: Vector
    """Other photos [n, D]; n may be 0."""
    centre: Vector
    """Mean of all photos."""


class Faces:
    """A detector and one embedder or more."""

    def __init__(self, settings: EvaluateSettings) -> None:
        """Raises InputError for missing packages and weights."""
        config = settings.detecting()
        self._detector, self._least_score = load_detector(config), min_face_score(config)
        self.detector = settings.detector
        self._seen: dict[str, Vectors | None] = {}
        self.embedders: dict[str, FaceEmbedder] = {}
        self.versions: dict[str, str] = {}
        for name in settings.embedders:
            own = settings.embedding(name)
            self.embedders[name] = load_embedder(own)
            pinned = [spec.version for spec in embedder_spec(own).weights]
            self.versions[name] = " ".join(pinned or model_names(own)[-1:])

    def look(self, picture: PILImage.Image) -> Look | None:
        """The largest face; None when there is none."""
        image = np.asarray(enlarged(picture))
        found = [face for face in self._detector.detect(image, SMALLEST_FACE_PX) if face.score >= self._least_score]
        return self._embedded(image, max(found, key=lambda face: face.side_px)) if found else None

    def seen(self, sample: Sample) -> Vectors | None:
        """Of a photo, as of any picture: None where the detector sees no face."""
        if sample.key not in self._seen:
            look = self.look(PILImage.fromarray(crop_image(sample, sample.key)))
            self._seen[sample.key] = None if look is None else look.vectors
        return self._seen[sample.key]

    def known(self, sample: Sample) -> Vectors:
        """Of a photo, whose face is known: where the detector sees none, by the landmarks that lie with it."""
        vectors = self.seen(sample)
        if vectors is not None:
            return vectors
        picture = PILImage.fromarray(crop_image(sample, sample.key))
        scale = enlarged(picture).width / picture.width
        points = tuple((x * scale, y * scale) for x, y in landmarks_px(sample))
        xs, ys = zip(*points, strict=True)
        return self._embedded(
            np.asarray(enlarged(picture)), Face((min(xs), min(ys), max(xs), max(ys)), points, 1.0)
        ).vectors

    def likeness(self, references: Sequence[Sample], others: Sequence[Sample]) -> dict[str, Likeness]:
        """Embedder → the person."""
        shown, rest = ([self.known(sample) for sample in samples] for samples in (references, others))
        return {name: _likeness([v[name] for v in shown], [v[name] for v in rest]) for name in self.embedders}

    def numbers(
        self, likeness: Mapping[str, Likeness], vectors: Vectors | None
    ) -> Iterator[tuple[str, str, float | None]]:
        """(metric, model, value) of a picture's face, None without one, beside what each embedder knows of a person."""
        yield "no_face", self.detector, float(vectors is None)
        for name, person in likeness.items():
            for metric, value in similarities(person.reference if vectors is None else vectors[name], person).items():
                if value is not None:  # else there is nothing to compare with, which is no fault of the picture
                    yield metric, self.versions[name], None if vectors is None else value

    def _embedded(self, image: Image, face: Face) -> Look:
        return Look(
            face, image, {name: np.asarray(e.embed(image, [face])[0], np.float64) for name, e in self.embedders.items()}
        )


def similarities(vector: Vector, person: Likeness) -> dict[str, float | None]:
    """Face-Sim to the references, other photos and the centre, and the copy-paste gap: reference minus others."""
    reference = float(vector @ person.reference)
    others = float((person.others @ vector).mean()) if len(person.others) else None
    return {
        "face_sim_reference": reference,
        "face_sim_held_out": others,
        "face_sim_centre": float(vector @ person.centre),
        "copy_paste_gap": None if others is None else reference - others,
    }


def enlarged(picture: PILImage.Image) -> PILImage.Image:
    """To a shorter side of `LEAST_SIDE_PX` at least."""
    factor = LEAST_SIDE_PX / min(picture.size)
    if factor <= 1:
        return picture
    width, height = (round(side * factor) for side in picture.size)
    return picture.resize((width, height), PILImage.Resampling.BICUBIC)


def _likeness(shown: Sequence[Vector], rest: Sequence[Vector]) -> Likeness:
    others = np.stack(rest) if rest else np.empty((0, len(shown[0])))
    return Likeness(_unit(np.mean(shown, axis=0)), others, _unit(np.mean([*shown, *rest], axis=0)))


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
