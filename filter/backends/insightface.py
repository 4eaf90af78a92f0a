"""insightface's packs: SCRFD and ArcFace through the package's own model classes, two of a pack's five files.

The packs are for non-commercial research only: the config says that this is accepted before one is
downloaded, by the package's own function, as it is not pinned.
"""

from __future__ import annotations

import functools
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from crawl.errors import InputError
from filter.align import aligned
from filter.backends import unit_rows
from filter.backends.runtime import BROKEN_FILE, PROVIDERS, one_thread
from filter.faces import Embeddings, Face, Image
from filter.weights import TIMEOUT_S, bring

PACKS = {
    "antelopev2": ("scrfd_10g_bnkps.onnx", "glintr100.onnx"),
    "buffalo_l": ("det_10g.onnx", "w600k_r50.onnx"),
    "buffalo_m": ("det_2.5g.onnx", "w600k_r50.onnx"),
    "buffalo_s": ("det_500m.onnx", "w600k_mbf.onnx"),
    "buffalo_sc": ("det_500m.onnx", "w600k_mbf.onnx"),
}
"""Detector and recogniser of each pack."""

LEAST_SCORE = 0.5
SMALLEST_FACE_PX = 32
CLOSE_UP_PX, USUAL_PX, LARGEST_PX = 128, 640, 2560
"""Sides of the detector's input: a face that fills the photo is found in the smallest, see `input_sides`."""


class Scrfd:
    """SCRFD with five landmarks. The score is a probability, 0–1."""

    def __init__(self, weights: Path) -> None:
        self._model = _model(weights, "detection")
        if not self._model.use_kps:
            raise InputError(f"{weights}: this detector gives no landmarks; use another pack")
        self._refuse_broken_weights(weights.name)

    def detect(self, image: Image, min_face_px: int) -> list[Face]:
        """Faces, best score first."""
        sides = input_sides(max(image.shape[:2]), min_face_px)
        rows, landmarks = self._model.detect(
            np.ascontiguousarray(image[:, :, ::-1]), input_size=[(side, side) for side in sides], det_thresh=LEAST_SCORE
        )
        return [_face(row, points) for row, points in zip(rows, landmarks, strict=True)]

    def _refuse_broken_weights(self, name: str) -> None:
        """The package drops scores that are not numbers without a word: such a model would find no faces."""
        width, height = self._model.static_input_size or (USUAL_PX, USUAL_PX)
        grey = np.zeros((1, 3, height, width), np.float32)
        for output in self._model.session.run(self._model.output_names, {self._model.input_name: grey}):
            assert np.isfinite(output).all(), f"{name}: an output is not finite"


class ArcFace:
    """ArcFace on the 112 × 112 aligned crop."""

    def __init__(self, weights: Path) -> None:
        self._name = weights.name
        self._model = _model(weights, "recognition")
        self.dimensions = int(self._model.output_shape[-1])

    def embed(self, image: Image, faces: list[Face]) -> Embeddings:
        """One unit row a face."""
        side = int(self._model.input_size[0])
        crops = [np.ascontiguousarray(aligned(image, face.landmarks_px, side)[:, :, ::-1]) for face in faces]
        rows = [self._model.get_feat(crop)[0] for crop in crops]
        return unit_rows(rows, self.dimensions, self._name)


def pack_paths(name: str, cache: Path, root: Path) -> tuple[Path, Path]:
    """Detector and recogniser, in our cache folder or in insightface's; downloaded to ours when in neither.

    Raises InputError: an unknown pack, or one that cannot be downloaded, and what to put where.
    """
    if name not in PACKS:
        raise InputError(f"filter.insightface_pack: unknown pack {name!r}; known: {', '.join(PACKS)}")
    detector, recogniser = PACKS[name]
    own = root / "models" / name
    for folder in (cache / name, own, own / name):  # antelopev2.zip holds a folder of its own name
        if (folder / detector).is_file() and (folder / recogniser).is_file():
            return folder / detector, folder / recogniser
    paths = cache / name / detector, cache / name / recogniser
    _download(name, paths, cache, f"unpack {detector} and {recogniser} in {cache / name} or in {own}")
    return paths


def _download(name: str, paths: tuple[Path, Path], cache: Path, by_hand: str) -> None:
    """The package's function keeps a pack below any root: here a folder that is thrown away."""
    storage = _package()[1]
    url = storage.model_zoo_download_url(f"{name}.zip")
    bring(paths, cache, lambda root: _unpack(storage, name, root), url, by_hand)


def _unpack(storage: Any, name: str, root: Path) -> None:
    """The package asks without a time limit, and would wait for ever for a server that says nothing."""
    module: Any = sys.modules[storage.download_file.__module__]
    requests = module.requests
    module.requests = SimpleNamespace(get=functools.partial(requests.get, timeout=TIMEOUT_S))
    try:
        storage.download("models", name, force=True, root=str(root))
    finally:
        module.requests = requests


def input_sides(long_side_px: int, min_face_px: int) -> list[int]:
    """A small input for faces that fill the photo, and one in which `min_face_px` is ≥ 32 px where possible."""
    wanted = SMALLEST_FACE_PX * long_side_px / min_face_px
    side = min(LARGEST_PX, max(USUAL_PX, -(-int(wanted) // 32) * 32))
    return [CLOSE_UP_PX, side]


def _model(weights: Path, task: str) -> Any:
    model_zoo = _package()[0]
    try:
        model = model_zoo.get_model(
            str(weights), providers=PROVIDERS, sess_options=one_thread(), static_shape_sessions=False
        )
    except BROKEN_FILE as error:
        raise InputError(f"{weights}: not a whole ONNX file: {' '.join(str(error).split())[:200]}") from None
    if model is None or model.taskname != task:
        raise InputError(
            f"{weights}: insightface knows this file as {getattr(model, 'taskname', 'nothing')}, not {task}"
        )
    return model


def _package() -> tuple[Any, Any]:
    """The modules with `get_model` and with `download`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its dependencies, at import
            from insightface import model_zoo
            from insightface.utils import storage
    except ModuleNotFoundError as error:
        raise InputError(
            f"filter.models: insightface: package {error.name} is not installed: pip install 'personae[insightface]'"
        ) from None
    return model_zoo, storage


def _face(row: np.ndarray, points: np.ndarray) -> Face:
    left, top, right, bottom, score = (float(v) for v in row)
    return Face((left, top, right, bottom), tuple((float(x), float(y)) for x, y in points), score)
