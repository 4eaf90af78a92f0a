"""The scan stage: decode each photo once, measure it, set duplicates aside, find and embed its faces.

One identity at a time, its largest photo first, so that of duplicates the largest is kept and no model
runs on the others. A photo that kills its process costs one row: see `isolate`. Whose faces they are
is decided later. What is kept has the most restrictive licence of all its copies.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crawl.decode import decode_picture, pixels
from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.stage import Tick
from crawl.store import Store
from crawl.tables import Entry, Tables, fingerprint
from crawl.tombstones import NO_TOMBSTONES, REMOVED, read_tombstones
from filter.config import FilterConfig, FilterRun
from filter.duplicates import DUPLICATE, Seen, strictest_licences
from filter.faces import Face, FaceDetector, FaceEmbedder, Image
from filter.isolate import Journal, OneAtATime
from filter.models import load_detector, load_embedder, min_face_score, model_names
from filter.resolution import Measures, check_resolution, measure

VERSION = 2
FACES = "faces"
UPSTREAM = "crawl"
_SETTINGS = {
    "models", "embedder", "insightface_pack", "min_side_px", "min_megapixels", "max_aspect_ratio", "min_sharpness",
    "min_colourfulness", "near_duplicate_bits", "min_face_px", "min_face_score", "max_faces",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scanned:
    """A photo with at least one face that counts; working data, never published."""

    photo: Photo
    measures: Measures
    faces: tuple[Face, ...]
    """The faces that count, best score first, each with its embedding."""
    faces_in_photo: int
    """All faces found, counting or not."""


Outcome = Scanned | Rejection


class Examiner:
    """The models, loaded once per worker, and what they make of one photo."""

    def __init__(self, config: FilterConfig) -> None:
        self._config = config
        self._detector: FaceDetector = load_detector(config)
        self._embedder: FaceEmbedder = load_embedder(config)

    def look(self, content: bytes) -> tuple[Image, Measures] | Rejection:
        """Decode and measure; Rejection for what is no photo or too small a one."""
        picture = decode_picture(content)
        if isinstance(picture, Rejection):
            return picture
        measures = measure(picture)
        rejection = check_resolution(measures, self._config)
        image = rejection or pixels(picture)
        return image if isinstance(image, Rejection) else (image, measures)

    def faces(self, photo: Photo, image: Image, measures: Measures) -> Outcome:
        """Find the faces that count and embed them."""
        found = self._detector.detect(image, self._config.min_face_px)
        chosen = counting(found, self._config)
        if isinstance(chosen, Rejection):
            return chosen
        rows = self._embedder.embed(image, chosen)
        faces = tuple(dataclasses.replace(f, embedding=e) for f, e in zip(chosen, rows, strict=True))
        return Scanned(photo, measures, faces, len(found))


def counting(found: list[Face], config: FilterConfig) -> list[Face] | Rejection:
    """The faces that count, or why the photo is rejected."""
    least_px, most, least_score = config.min_face_px, config.max_faces, min_face_score(config)
    sure = [f for f in found if f.score >= least_score]
    if not sure:
        best = max((f.score for f in found), default=None)
        return Rejection(FACES, "no_face", best, least_score)
    if most is not None and len(sure) > most:
        return Rejection(FACES, "too_many_faces", float(len(sure)), float(most))
    large = [f for f in sure if f.side_px >= least_px]
    if not large:
        return Rejection(FACES, "face_too_small", max(f.side_px for f in sure), float(least_px))
    return large


def examine(
    examiner: Examiner, photo: Photo, content: bytes, duplicate: Callable[[Measures], Rejection | None]
) -> tuple[Measures | None, Outcome]:
    """What is known of one photo. An exception in here is a row's fault, not the job's."""
    try:
        looked = examiner.look(content)
        if isinstance(looked, Rejection):
            return None, looked
        image, measures = looked
        return measures, duplicate(measures) or examiner.faces(photo, image, measures)
    except (ValueError, RuntimeError, ArithmeticError, LookupError, OSError) as error:
        return None, Rejection("scan", "error", detail=f"{type(error).__name__}: {error}")


class ScanStage:
    """`tables/scan`: Entry[Scanned] for every photo that the crawl has bytes of."""

    name = "scan"

    def __init__(self, run: FilterRun, output: Output) -> None:
        self._config = run.filter
        self._output = output
        self._tables = Tables(output)
        self._store = Store(output)
        self._examiner: Examiner | None = None
        self._tombstones = NO_TOMBSTONES

    def fingerprint(self, bucket: int) -> str:
        settings = self._config.model_dump(include=_SETTINGS)
        upstream = self._tables.fingerprint(UPSTREAM, bucket)
        return fingerprint(self.name, VERSION, settings, model_names(self._config), upstream)

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        photos = (e.row for e in self._tables.read(UPSTREAM, bucket, Photo) if e.row and not e.rejection)
        self._tombstones = read_tombstones(self._output)
        with Journal(self._output, self.name, bucket) as journal:
            if journal.somebody_died:
                with OneAtATime(_start_examiner, _examine_alone, self._config) as alone:
                    entries = self._scan(photos, tick, lambda p, seen: self._alone(alone, p, seen))
                    self._tables.write(self.name, bucket, Scanned, entries, fingerprint)
            else:
                entries = self._scan(photos, tick, lambda p, seen: self._here(journal, p, seen))
                self._tables.write(self.name, bucket, Scanned, entries, fingerprint)

    def _scan(
        self, photos: Iterable[Photo], tick: Tick, look: Callable[[Photo, Seen], Outcome]
    ) -> Iterator[Entry[Scanned]]:
        for _, group in itertools.groupby(photos, key=lambda p: p.identity):
            seen = Seen(self._config.near_duplicate_bits)
            outcomes: list[tuple[Photo, Outcome]] = []
            for photo in sorted(group, key=lambda p: (-p.header_pixels, p.key)):
                outcomes.append((photo, seen.same_file(photo) or look(photo, seen)))
                tick(self.name, 1)
            licences = strictest_licences([(p.key, p.licence, _original(outcome)) for p, outcome in outcomes])
            for photo, outcome in sorted(outcomes, key=lambda pair: pair[0].key):
                if isinstance(outcome, Rejection):
                    yield Entry(photo.key, None, outcome)
                else:
                    licensed = dataclasses.replace(photo, licence=licences[photo.key])
                    yield Entry(photo.key, dataclasses.replace(outcome, photo=licensed))

    def _here(self, journal: Journal, photo: Photo, seen: Seen) -> Outcome:
        if self._examiner is None:
            self._examiner = Examiner(self._config)
        journal.hold(photo.key)
        content = self._store.read(photo)
        return examine(self._examiner, photo, content, lambda m: self._known(photo, m, seen))[1]

    def _alone(self, alone: OneAtATime, photo: Photo, seen: Seen) -> Outcome:
        result = alone.run(photo, self._store.read(photo))
        if result is None:
            return Rejection("scan", "crash")
        measures, outcome = result
        return (measures and self._known(photo, measures, seen)) or outcome

    def _known(self, photo: Photo, measures: Measures, seen: Seen) -> Rejection | None:
        """A picture that was taken down, or that is there already."""
        if self._tombstones.picture(measures.dhash, measures.mirrored_dhash):
            return REMOVED
        return seen.same_picture(photo.key, measures)


def _original(outcome: Outcome) -> str | None:
    """Key of the photo that this one is a duplicate of."""
    return outcome.detail if isinstance(outcome, Rejection) and outcome.reason == DUPLICATE else None


def _start_examiner(config: FilterConfig) -> Examiner:
    return Examiner(config)


def _examine_alone(examiner: Examiner, photo: Photo, content: bytes) -> tuple[Measures | None, Outcome]:
    return examine(examiner, photo, content, lambda measures: None)
