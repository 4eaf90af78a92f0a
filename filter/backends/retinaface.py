"""The retina-face package's RetinaFace (ResNet-50), on its onnxruntime engine, with our session.

The package downloads its weights unpinned on first use; here a missing file is an error that says
where to put it.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from crawl.errors import InputError
from filter.backends.runtime import session
from filter.faces import Face, Image

FILE = "retinaface.onnx"
URL = "https://github.com/serengil/deepface_models/releases/download/v1.0/retinaface.onnx"

LEAST_SCORE = 0.5
FACE_PX = 64
"""The photo is shrunk until a face of `min_face_px` has this side; at full size a photo takes many seconds."""
SMALLEST_PX = 64
"""Black is added to photos smaller than this: the network has cells of 32 px."""
OUR_ORDER = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
"""The package names the subject's sides; ours are the photo's."""


class RetinaFaceResNet50:
    """RetinaFace with five landmarks. The score is a softmax probability, 0–1."""

    def __init__(self, weights: Path) -> None:
        self._package, network = _package()
        self._network = _Checked(network(session(weights)), weights.name)

    def detect(self, image: Image, min_face_px: int) -> list[Face]:
        """Faces, best score first."""
        scale = min(1.0, FACE_PX / min_face_px)
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        photo = PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.zeros((max(SMALLEST_PX, size[1]), max(SMALLEST_PX, size[0]), 3), np.uint8)
        pixels[: size[1], : size[0]] = np.asarray(photo)[:, :, ::-1]
        found = self._package.detect_faces(pixels, threshold=LEAST_SCORE, model=self._network, allow_upscaling=False)
        faces = [_face(face, width / size[0], height / size[1]) for face in found.values()]
        return sorted(faces, key=lambda face: (-face.score, face.box_xyxy_px))


class _Checked:
    """The network; stops on outputs that are not numbers, which the package would take for no face."""

    def __init__(self, network: Any, name: str) -> None:
        self._network, self._name = network, name

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._network(pixels)
        for output in outputs:
            assert np.isfinite(output).all(), f"{self._name}: an output is not finite"
        return outputs


def find_weights(cache: Path, home: Path) -> Path:
    """The weights in our cache folder, or where the package keeps them. Raises InputError saying what to put where."""
    own = home / ".deepface" / "weights" / FILE
    for path in (cache / FILE, own):
        if path.is_file():
            return path
    raise InputError(f"retina-face: {FILE} is neither in {cache} nor at {own}: download {URL} to one of them")


def _package() -> tuple[Any, Any]:
    """The module with `detect_faces`, and the network's class. Its import mutes all warnings: undone here."""
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"  # else it prefers tensorflow or torch when they are installed
    try:
        with warnings.catch_warnings():
            from retinaface import RetinaFace
            from retinaface.commons import backend_utils
            from retinaface.model import retinaface_onnx_model
    except ModuleNotFoundError as error:
        raise InputError(
            f"filter.models: retina-face: package {error.name} is not installed: pip install 'personae[retina-face]'"
        ) from None
    if not backend_utils.is_onnx():
        raise InputError("retina-face: another engine than onnx is in use in this process already")
    return RetinaFace, retinaface_onnx_model.RetinaFace


def _face(face: dict[str, Any], x_scale: float, y_scale: float) -> Face:
    left, top, right, bottom = (float(v) for v in face["facial_area"])
    points = tuple((float(x) * x_scale, float(y) * y_scale) for x, y in (face["landmarks"][name] for name in OUR_ORDER))
    return Face((left * x_scale, top * y_scale, right * x_scale, bottom * y_scale), points, float(face["score"]))
