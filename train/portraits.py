"""Reference photos of a person, from files: the face found and cut as the dataset's filter finds and cuts it.

Knows nothing of models beyond the detector, and nothing of batches.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image as PILImage

from crawl.decode import Image, decode
from crawl.errors import InputError
from crawl.photo import PHOTO_KEY_LENGTH, Rejection
from filter.config import FilterConfig
from filter.crop import box_into_crop, face_square, into_crop, training_square, visible
from filter.cut import encode, resize
from filter.faces import Face, FaceDetector
from filter.models import load_detector, min_face_score
from shards.sample import Sample

SMALLEST_FACE_PX = 48


class Portraits:
    """Cuts by one detector."""

    def __init__(self, config: FilterConfig) -> None:
        """Raises InputError for missing packages and weights."""
        self._config = config
        self._detector: FaceDetector = load_detector(config)

    def cut(self, path: str) -> Sample:
        """As a dataset would hold the photo, without captions and keypoints; of several faces the largest.

        Raises InputError, one line naming the file: missing, no photo, no face.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"reference: {path}: {error.strerror}") from None
        image = decode(content)
        if isinstance(image, Rejection):
            raise InputError(f"reference: {path}: not a photo that can be used: {image.reason}")
        return self._sample(image, self._face(image, path), content)

    def _face(self, image: Image, path: str) -> Face:
        found = self._detector.detect(image, SMALLEST_FACE_PX)
        faces = [face for face in found if face.score >= min_face_score(self._config)]
        if not faces:
            raise InputError(f"reference: {path}: no face found (by the detector {self._config.models})")
        return max(faces, key=lambda face: face.side_px)

    def _sample(self, image: Image, face: Face, content: bytes) -> Sample:
        config, picture, (height, width) = self._config, PILImage.fromarray(image), image.shape[:2]
        square = training_square(height, width, face.box_xyxy_px, config.framing, config.min_face_share)
        closeup = face_square(height, width, face.box_xyxy_px)
        key = hashlib.sha256(content).hexdigest()[:PHOTO_KEY_LENGTH]
        metadata = {
            "key": key,
            "size_px": config.size_px,
            "original_size": [height, width],
            "face_xyxy_px": list(visible(box_into_crop(face.box_xyxy_px, square, config.size_px), config.size_px)),
            "landmarks_px": [list(point) for point in into_crop(face.landmarks_px, square, config.size_px)],
        }
        crop, face_crop = (
            encode(resize(picture, cut, size_px), config.jpeg_quality)
            for cut, size_px in ((square, config.size_px), (closeup, config.face_size_px))
        )
        return Sample(key, "", crop, face_crop, metadata)
