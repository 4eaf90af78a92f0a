"""The crop stage: verified photos become Portraits, with both crops encoded.

Photos of a name that was set aside as another name's double (`names`) end here. Published bytes are
always our own encoding of pixels: no metadata of the original survives.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import PIL
from PIL import Image as PILImage

from crawl.decode import decode_picture
from crawl.output import Output
from crawl.photo import Rejection, bucket_of
from crawl.stage import Tick
from crawl.store import Store
from crawl.tables import Entry, Tables, fingerprint
from filter.classify import STAGE as CLASSIFY
from filter.classify import Classified
from filter.config import FilterConfig, FilterRun
from filter.crop import Square, box_into_crop, face_square, into_crop, training_square, visible
from filter.decide import Verified
from filter.doubles import same_person_cosine
from filter.keypoints import STAGE as POSE
from filter.keypoints import Pose, in_crop
from filter.models import classifier_names, model_names, pose_names
from filter.names import Finding
from filter.portrait import ClassScore, Portrait
from filter.scan import Scanned
from filter.verified import UPSTREAM

VERSION = 2
NO_MODEL = Rejection(POSE, "no pose model is configured")


class CropStage:
    """`tables/crop`: Entry[Portrait] for every verified photo."""

    name = "crop"

    def __init__(self, run: FilterRun, output: Output, doubles: Mapping[str, Finding]) -> None:
        self._config = config = run.filter
        self._buckets = run.shards.buckets
        asked = [stage for stage, there in ((POSE, config.pose != "none"), (CLASSIFY, config.classifiers)) if there]
        self._upstream = (*UPSTREAM, *asked)
        self._tables = Tables(output)
        self._store = Store(output)
        self._set_aside = doubles if run.filter.verify.set_aside_same_person else {}

    def fingerprint(self, bucket: int) -> str:
        config = self._config
        settings = [config.framing, config.min_face_share, config.size_px, config.face_size_px, config.jpeg_quality]
        aside = sorted((i, f.same_as) for i, f in self._set_aside.items() if bucket_of(i, self._buckets) == bucket)
        upstream = [self._tables.fingerprint(stage, bucket) for stage in self._upstream]
        return fingerprint(self.name, VERSION, settings, config.verify.rule, PIL.__version__, aside, upstream)

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        self._tables.write(self.name, bucket, Portrait, self._cut(bucket, tick), fingerprint)

    def _cut(self, bucket: int, tick: Tick) -> Iterator[Entry[Portrait]]:
        verified = {e.key: e.row for e in self._tables.read("verify", bucket, Verified) if e.row is not None}
        poses, classes = self._poses(bucket), self._classes(bucket)
        for entry in self._tables.read("scan", bucket, Scanned):
            if entry.row is not None and entry.key in verified:
                pose, said = poses.get(entry.key, NO_MODEL), classes.get(entry.key, Classified(()))
                if isinstance(said, Rejection):
                    yield Entry(entry.key, None, said)
                else:
                    yield self._portrait(entry.row, verified[entry.key], pose, said)
                tick(self.name, 1)

    def _poses(self, bucket: int) -> dict[str, Pose | Rejection]:
        """Of every verified photo, unless there is no pose model; a table of another run file's is not looked at."""
        if POSE not in self._upstream:
            return {}
        return {e.key: e.row or e.rejection or NO_MODEL for e in self._tables.read(POSE, bucket, Pose)}

    def _classes(self, bucket: int) -> dict[str, Classified | Rejection]:
        """Of every verified photo, unless there is no classifier."""
        if CLASSIFY not in self._upstream:
            return {}
        entries = self._tables.read(CLASSIFY, bucket, Classified)
        return {e.key: said for e in entries if (said := e.row or e.rejection) is not None}

    def _portrait(
        self, scanned: Scanned, verified: Verified, pose: Pose | Rejection, classified: Classified
    ) -> Entry[Portrait]:
        photo = scanned.photo
        aside = self._set_aside.get(photo.identity)
        if aside is not None:
            reason = Rejection(
                "names", "same_as_other_name", aside.cosine, same_person_cosine(self._config), aside.same_as
            )
            return Entry(photo.key, None, reason)
        picture = decode_picture(self._store.read(photo))
        if isinstance(picture, Rejection):
            return Entry(photo.key, None, picture)
        return Entry(photo.key, cut(picture, scanned, verified, self._config, pose, classified.scores))


def cut(
    picture: PILImage.Image,
    scanned: Scanned,
    verified: Verified,
    config: FilterConfig,
    pose: Pose | Rejection = NO_MODEL,
    classes: tuple[ClassScore, ...] = (),
) -> Portrait:
    """Both crops of a verified photo, and every coordinate in the crop's own pixels."""
    face = scanned.faces[verified.face_index]
    width, height = picture.size
    square = training_square(height, width, face.box_xyxy_px, config.framing, config.min_face_share)
    reference = face_square(height, width, face.box_xyxy_px)
    points, scores = (None, None) if isinstance(pose, Rejection) else in_crop(pose, square, config.size_px)
    return Portrait(
        key=scanned.photo.key,
        identity=scanned.photo.identity,
        photo=scanned.photo,
        height_px=height,
        width_px=width,
        crop_xyxy_px=square,
        size_px=config.size_px,
        face_xyxy_px=visible(box_into_crop(face.box_xyxy_px, square, config.size_px), config.size_px),
        landmarks_px=into_crop(face.landmarks_px, square, config.size_px),
        face_score=face.score,
        faces_in_photo=scanned.faces_in_photo,
        identity_score=verified.score,
        identity_rule=config.verify.rule,
        sharpness=scanned.measures.sharpness,
        colourfulness=scanned.measures.colourfulness,
        keypoints=points,
        keypoint_scores=scores,
        keypoints_reason=pose.reason if isinstance(pose, Rejection) else None,
        models=(*model_names(config), *pose_names(config), *classifier_names(config)),
        image_jpeg=encode(resize(picture, square, config.size_px), config.jpeg_quality),
        face_jpeg=encode(resize(picture, reference, config.face_size_px), config.jpeg_quality),
        classes=classes,
    )


def resize(picture: PILImage.Image, square: Square, size_px: int) -> PILImage.Image:
    """The square, `size_px` a side: box to within twice the size, then bicubic. Looks at nothing beside the square."""
    side_px = square[2] - square[0]
    factor = max(1, side_px // size_px)
    reduced = picture.reduce(factor, box=square) if factor > 1 else picture.crop(square)
    inside = (0, 0, side_px / factor, side_px / factor)
    return reduced.resize((size_px, size_px), PILImage.Resampling.BICUBIC, inside)


def encode(picture: PILImage.Image, quality: int) -> bytes:
    """Baseline JPEG without metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
