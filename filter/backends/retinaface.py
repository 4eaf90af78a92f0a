"""The retina-face package's RetinaFace (ResNet-50), on its onnxruntime engine, with our session.

Missing weights are downloaded by the package's own function; they are not pinned.
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
from filter.weights import bring

FILE = "retinaface.onnx"
HOME_VARIABLE = "DEEPFACE_HOME"
"""Environment variable: the package keeps its weights below this folder, else below the user's home."""

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
        self._package, model, _ = _package()
        self._network = _Checked(model.RetinaFace(session(weights)), weights.name)

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


def weights_path(cache: Path, home: Path) -> Path:
    """The weights in our cache folder, or where the package keeps them; downloaded to ours when in neither.

    Raises InputError saying what to put where.
    """
    own = home / ".deepface" / "weights" / FILE
    for path in (cache / FILE, own):
        if path.is_file():
            return path
    urls = _package()[1].WEIGHTS_URLS
    bring((cache / FILE,), cache, _download, " and ".join(urls), f"put the file at {cache / FILE} or at {own}")
    return cache / FILE


def _download(folder: Path) -> None:
    """By the package's function, which knows only its own place, put elsewhere for as long as it runs."""
    _, model, weight_utils = _package()
    before = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = str(folder)
    try:
        file = weight_utils.download_weights_if_necessary(FILE, model.WEIGHTS_URLS)
    finally:
        os.environ.pop(HOME_VARIABLE)
        if before is not None:
            os.environ[HOME_VARIABLE] = before
    try:
        session(Path(file))  # the only check there is: a whole file loads
    except InputError:
        raise ValueError("what came is not a whole ONNX file") from None


def _package() -> tuple[Any, Any, Any]:
    """The modules with `detect_faces`, with the network and with the download.

    The package's import mutes all warnings: undone here.
    """
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"  # else it prefers tensorflow or torch when they are installed
    try:
        with warnings.catch_warnings():
            from retinaface import RetinaFace
            from retinaface.commons import backend_utils, weight_utils
            from retinaface.model import retinaface_onnx_model
    except ModuleNotFoundError as error:
        raise InputError(
            f"filter.models: retina-face: package {error.name} is not installed: pip install 'personae[retina-face]'"
        ) from None
    if not backend_utils.is_onnx():
        raise InputError("retina-face: another engine than onnx is in use in this process already")
    return RetinaFace, retinaface_onnx_model, weight_utils


def _face(face: dict[str, Any], x_scale: float, y_scale: float) -> Face:
    left, top, right, bottom = (float(v) for v in face["facial_area"])
    points = tuple((float(x) * x_scale, float(y) * y_scale) for x, y in (face["landmarks"][name] for name in OUR_ORDER))
    return Face((left * x_scale, top * y_scale, right * x_scale, bottom * y_scale), points, float(face["score"]))
