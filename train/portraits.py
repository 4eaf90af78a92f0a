"""Reference photos of a person, from files: the face found and cut as the dataset's filter finds and cuts it.

Knows nothing of models beyond the detector, and nothing of batches.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image as PILImage
from torch import Tensor

from crawl.decode import Image, decode
from crawl.errors import InputError
from crawl.photo import PHOTO_KEY_LENGTH, Rejection
from filter.config import FilterConfig
from filter.crop import box_into_crop, face_square, into_crop, training_square, visible
from filter.cut import encode, resize
from filter.faces import Face, FaceDetector
from filter.keypoints import Pose, PoseEstimator, in_crop
from filter.models import load_detector, load_pose, min_face_score
from shards.format.sample import Sample
from train.data.photos import Photo

SMALLEST_FACE_PX = 48


class Portraits:
    """Cuts by one detector."""

    def __init__(self, config: FilterConfig) -> None:
        """Raises InputError for missing packages and weights."""
        self._config = config
        self._detector: FaceDetector = load_detector(config)
        self._pose: PoseEstimator | None = None if config.pose == "none" else load_pose(config)

    def cut(self, path: str) -> Sample:
        """As a dataset would hold the photo, without captions; of several faces the largest.

        Keypoints with a `pose` in the configuration. Raises InputError, one line naming the file: missing, no photo,
        no face, no body.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"reference: {path}: {error.strerror}") from None
        image = decode(content)
        if isinstance(image, Rejection):
            raise InputError(f"reference: {path}: not a photo that can be used: {image.reason}")
        face = self._face(image, path)
        return self._sample(image, face, content, self._keypoints(image, face, path))

    def _face(self, image: Image, path: str) -> Face:
        found = self._detector.detect(image, SMALLEST_FACE_PX)
        faces = [face for face in found if face.score >= min_face_score(self._config)]
        if not faces:
            raise InputError(f"reference: {path}: no face found (by the detector {self._config.models})")
        return max(faces, key=lambda face: face.side_px)

    def _keypoints(self, image: Image, face: Face, path: str) -> Pose | None:
        if self._pose is None:
            return None
        (pose,) = self._pose.estimate([PILImage.fromarray(image)], [face])
        if isinstance(pose, Rejection):
            raise InputError(f"reference: {path}: no body found with this face: {pose.reason}")
        return pose

    def _sample(self, image: Image, face: Face, content: bytes, pose: Pose | None) -> Sample:
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
        if pose is not None:
            points, scores = in_crop(pose, square, config.size_px)
            metadata |= {"keypoints": [list(point) for point in points], "keypoint_scores": list(scores)}
        crop, face_crop = (
            encode(resize(picture, cut, size_px), config.jpeg_quality)
            for cut, size_px in ((square, config.size_px), (closeup, config.face_size_px))
        )
        return Sample(key, "", crop, face_crop, metadata)


def keypoints_of(sample: Sample) -> Tensor:
    """[12, 3] of a cut photo: x, y in 0–1 of its crop, visibility."""
    return Photo(sample.key, 0, "photo", int(sample.metadata["size_px"]), lambda: sample).keypoints()
