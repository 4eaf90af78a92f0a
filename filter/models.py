"""Face detectors, embedders and pose models: the one table of names, weights, licences and calibrated thresholds.

Chooses and loads; a back-end's libraries are imported only when it is chosen.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from filter.backends.hub import version, where
from filter.config import FilterConfig
from filter.faces import FaceDetector, FaceEmbedder
from filter.keypoints import PoseEstimator
from filter.weights import ModelSpec as ModelSpec
from filter.weights import cache_folder, sha256_of, weights_path

PUBLIC_DOMAIN = "public domain (CC0-1.0)"
MEDIAPIPE = "github.com/google-ai-edge/mediapipe"
DLIB_MODELS = "github.com/davisking/dlib-models, in the package face_recognition_models"

DLIB_LANDMARKS_5 = ModelSpec(
    name="dlib-5-landmarks",
    file="shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    num_bytes=9_150_489,
    licence=PUBLIC_DOMAIN,
    input_size="any",
    source=DLIB_MODELS,
    package="face_recognition_models",
)
DLIB_RESNET = ModelSpec(
    name="dlib-resnet-v1",
    file="dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    num_bytes=22_466_066,
    licence=PUBLIC_DOMAIN,
    input_size="150x150",
    source=DLIB_MODELS,
    package="face_recognition_models",
)
RETINAFACE_MOBILENET = ModelSpec(
    name="retinaface-mnet025",
    file="retinaface_mnet025_320.onnx",
    sha256="1061ac88e7c833cf058c3e8eb50367dc5e3daadcc14967b5dede8ac4409b86fa",
    num_bytes=1_715_779,
    licence="MIT",
    input_size="320x320",
    source="github.com/rit5k0005296-star/SmartStorage-RV1126B",
    url="https://raw.githubusercontent.com/rit5k0005296-star/SmartStorage-RV1126B/"
    "883c3907cc99f1498734fa19af9c629e43e46dfe/models/RetinaFace_mobile320.onnx",
)
MOBILEFACENET = ModelSpec(
    name="mobilefacenet-arcface",
    file="mobilefacenet_arcface.onnx",
    sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
    num_bytes=3_998_070,
    licence="Apache-2.0",
    input_size="112x112",
    source="github.com/foamliu/MobileFaceNet",
    url="https://raw.githubusercontent.com/foamliu/MobileFaceNet/"
    "a6cc9032a659b615f477833e1a70b5e7931bcccc/weights/MobileFaceNet.onnx",
)
BLAZEPOSE_DETECTOR = ModelSpec(
    name="blazepose-detector",
    file="blazepose_detection.tflite",
    sha256="a63c614bef30d35947f13be361820b1e4e3bec9cfeebf4d11216a18373108e85",
    num_bytes=2_962_288,
    licence="Apache-2.0",
    input_size="224x224",
    source=MEDIAPIPE,
    url="https://raw.githubusercontent.com/google-ai-edge/mediapipe/"
    "d4bb35fe5a44/mediapipe/modules/pose_detection/pose_detection.tflite",
)
BLAZEPOSE_LANDMARKER = ModelSpec(
    name="blazepose-landmarks-lite",
    file="blazepose_landmark_lite.tflite",
    sha256="f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61",
    num_bytes=2_819_824,
    licence="Apache-2.0",
    input_size="256x256",
    source=MEDIAPIPE,
    url="https://raw.githubusercontent.com/google-ai-edge/mediapipe/"
    "710fb3de58dc10b7bc75f9cb758300c9016a5e4f/mediapipe/modules/pose_landmark/pose_landmark_lite.tflite",
)
INSIGHTFACE_LICENCE = "non-commercial research only (github.com/deepinsight/insightface)"
RETINA_FACE_LICENCE = (
    "package MIT (github.com/serengil/retinaface), which gives its weights no terms; by the authors' word they were "
    "converted from insightface's RetinaFace, given for non-commercial research only: take them for that"
)
"""The word: retina-face 0.0.19's description ("pre-trained weights are same" as RetinaFace-tf2's) and its issue 10;
issue 6 of github.com/StanislasBertrand/RetinaFace-tf2 (converted from insightface's); insightface's README."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """What is known of a detector."""

    weights: tuple[ModelSpec, ...]
    """Empty: files of the user's own that are not pinned."""
    min_score: float
    """Default of `filter.min_face_score`."""
    score: str
    """What the score is."""


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What is known of an embedder; thresholds are cosines, calibrated on real photos (benchmarks/roc.py)."""

    weights: tuple[ModelSpec, ...]
    """Empty: files of the user's own that are not pinned."""
    dimensions: int
    threshold: float
    """Least cosine of a photo to its identity's centre."""
    pair_threshold: float
    """Least cosine of two photos of one person: about one false pair in a thousand."""
    same_person_cosine: float
    """Two identities whose centres are closer are one person."""


DETECTORS: dict[str, DetectorSpec] = {
    "embedded": DetectorSpec((DLIB_LANDMARKS_5,), min_score=0.2, score="SVM margin, clear faces 0.4–3"),
    "open": DetectorSpec((RETINAFACE_MOBILENET,), min_score=0.6, score="probability, 0–1"),
    "insightface": DetectorSpec((), min_score=0.5, score="probability, 0–1"),
    "retina-face": DetectorSpec((), min_score=0.9, score="probability, 0–1"),
}
EMBEDDERS: dict[str, EmbedderSpec] = {
    "embedded": EmbedderSpec(
        (DLIB_LANDMARKS_5, DLIB_RESNET), 129, threshold=0.965, pair_threshold=0.957, same_person_cosine=0.985
    ),
    "open": EmbedderSpec((MOBILEFACENET,), 128, threshold=0.40, pair_threshold=0.35, same_person_cosine=0.70),
    "insightface": EmbedderSpec((), 512, threshold=0.35, pair_threshold=0.28, same_person_cosine=0.70),
}
POSES: dict[str, tuple[ModelSpec, ...]] = {
    "none": (),
    "blazepose": (BLAZEPOSE_DETECTOR, BLAZEPOSE_LANDMARKER),
    "vitpose": (BLAZEPOSE_DETECTOR, BLAZEPOSE_LANDMARKER),
}
"""Pinned weights of each pose model. ViTPose's own come from the Hugging Face hub; BlazePose tells it where to look."""


def load_detector(config: FilterConfig) -> FaceDetector:
    """The configured detector, ready to use. Raises InputError for missing packages and weights."""
    match config.models:
        case "embedded":
            from filter.backends.embedded import HogDetector

            return HogDetector(weights_path(DLIB_LANDMARKS_5))
        case "open":
            from filter.backends.open import RetinaFaceMobileNet

            return RetinaFaceMobileNet(weights_path(RETINAFACE_MOBILENET))
        case "insightface":
            from filter.backends.insightface import Scrfd

            return Scrfd(_pack_files(config)[0])
        case "retina-face":
            from filter.backends.retinaface import RetinaFaceResNet50

            return RetinaFaceResNet50(_retina_face_file())


def load_embedder(config: FilterConfig) -> FaceEmbedder:
    """The configured embedder, ready to use. Raises InputError for missing packages and weights."""
    match config.embedder_name:
        case "open":
            from filter.backends.open import MobileFaceNetEmbedder

            return MobileFaceNetEmbedder(weights_path(MOBILEFACENET))
        case "insightface":
            from filter.backends.insightface import ArcFace

            return ArcFace(_pack_files(config)[1])
        case _:
            from filter.backends.embedded import ResNetEmbedder

            return ResNetEmbedder(
                weights_path(DLIB_LANDMARKS_5), weights_path(DLIB_RESNET), dlib_boxes=config.models == "embedded"
            )


def load_pose(config: FilterConfig) -> PoseEstimator:
    """The configured pose model, ready to use. Raises InputError for missing packages and weights."""
    from filter.backends.blazepose import BlazePose
    from filter.backends.blazepose_networks import BodyDetector, BodyLandmarker

    assert config.pose != "none", "there is nothing to load"
    detector, landmarker = weights_path(BLAZEPOSE_DETECTOR), weights_path(BLAZEPOSE_LANDMARKER)
    blazepose = BlazePose(BodyDetector(detector), BodyLandmarker(landmarker))
    if config.pose == "blazepose":
        return blazepose
    from filter.backends.vitpose import VitPose

    return VitPose(config.vitpose_model, config.vitpose_revision, blazepose)


def min_face_score(config: FilterConfig) -> float:
    """The configured least detector score, or the detector's own."""
    return DETECTORS[config.models].min_score if config.min_face_score is None else config.min_face_score


def embedder_spec(config: FilterConfig) -> EmbedderSpec:
    """What is known of the configured embedder."""
    return EMBEDDERS[config.embedder_name]


def embedder_file(config: FilterConfig) -> Path:
    """The ONNX file of embedder `insightface`, downloaded if need be. Raises InputError."""
    return _pack_files(config)[1]


def model_names(config: FilterConfig) -> tuple[str, ...]:
    """Name and version of every face model in use, as recorded in each row; a change in any changes the names.

    Raises InputError when a file that is not pinned is missing and cannot be downloaded.
    """
    names = [spec.version for spec in _pinned(config)]
    if config.models == "embedded":
        names.insert(0, f"dlib-hog@{importlib.metadata.version('dlib-bin')}")
    if config.models == "retina-face":
        names.insert(0, _own_version("retina-face", _retina_face_file()))
    if "insightface" in (config.models, config.embedder_name):
        detector, recogniser = _pack_files(config)
        used = [
            path for path, by in ((detector, config.models), (recogniser, config.embedder_name)) if by == "insightface"
        ]
        names += [_own_version(f"insightface-{config.insightface_pack}", path) for path in used]
    return tuple(names)


def pose_names(config: FilterConfig) -> tuple[str, ...]:
    """As `model_names`, of the pose models."""
    names = [spec.version for spec in POSES[config.pose]]
    if config.pose == "vitpose":
        names.append(version(config.vitpose_model, config.vitpose_revision))
    return tuple(names)


def classifier_names(config: FilterConfig) -> tuple[str, ...]:
    """As `model_names`, of the image classifiers."""
    return tuple(version(c.model, c.revision) for c in config.classifiers)


def licences(config: FilterConfig) -> list[str]:
    """One line a model in use, to be printed once at start."""
    specs = (*_pinned(config), *POSES[config.pose])
    lines = [f"{spec.name}: {spec.licence} ({spec.source})" for spec in specs]
    if config.pose == "vitpose":
        from filter.backends.vitpose import licence

        lines.append(licence(config.vitpose_model, config.vitpose_revision))
    for classifier, name in zip(config.classifiers, classifier_names(config), strict=True):
        lines.append(f"{name}: as its publisher states{where(classifier.model)}")
    if config.models == "retina-face":
        lines.insert(0, f"retina-face: {RETINA_FACE_LICENCE}")
    if "insightface" in (config.models, config.embedder_name):
        pack, accepted = config.insightface_pack, config.accept_licence
        lines.append(f"insightface pack {pack}: {INSIGHTFACE_LICENCE}; accepted in the config as: {accepted}")
    return lines


def _pinned(config: FilterConfig) -> tuple[ModelSpec, ...]:
    """Each file once: dlib's detector and embedder share their predictor."""
    return tuple(dict.fromkeys(DETECTORS[config.models].weights + EMBEDDERS[config.embedder_name].weights))


def _own_version(name: str, path: Path) -> str:
    return f"{name}/{path.name}@{sha256_of(path)[:8]}"


def _pack_files(config: FilterConfig) -> tuple[Path, Path]:
    from filter.backends.insightface import pack_paths

    return pack_paths(config.insightface_pack, cache_folder(), Path("~/.insightface").expanduser())


def _retina_face_file() -> Path:
    from filter.backends import retinaface

    return retinaface.weights_path(cache_folder(), Path(os.environ.get(retinaface.HOME_VARIABLE) or Path.home()))
