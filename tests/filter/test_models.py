"""The table holds together, the config picks from it, and only what is picked is imported."""

import itertools
import re
import subprocess
import sys
import urllib.request

import pytest
from pydantic import ValidationError

from crawl.errors import InputError
from filter.config import FilterConfig
from filter.models import (
    DETECTORS,
    EMBEDDERS,
    POSES,
    embedder_spec,
    licences,
    load_detector,
    load_embedder,
    load_pose,
    min_face_score,
    model_names,
    pose_names,
)
from filter.weights import weights_path

ACCEPTED = "insightface-non-commercial"
FACE_MODELS = (*DETECTORS.values(), *EMBEDDERS.values())
PINNED = {spec.name: spec for specs in (*(entry.weights for entry in FACE_MODELS), *POSES.values()) for spec in specs}
CONFIGS = [
    FilterConfig(models=models, embedder=embedder, accept_licence=ACCEPTED)
    for models, embedder in itertools.product(DETECTORS, (None, *EMBEDDERS))
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and an empty home."""
    monkeypatch.setenv("PERSONAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DEEPFACE_HOME", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch):
    """Every download fails at once, wherever the tests run: nothing listens at this proxy."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxy it was first used with
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(name, "" if name == "no_proxy" else "http://127.0.0.1:9")


def put(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)


@pytest.mark.parametrize("spec", PINNED.values(), ids=PINNED)
def test_pinned_weights_are_pinned_and_come_from_somewhere(spec):
    assert re.fullmatch("[0-9a-f]{64}", spec.sha256)
    assert spec.num_bytes > 0
    assert spec.licence
    assert (spec.url is None) != (spec.package is None)
    if spec.url:
        assert re.match(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{12,40}/", spec.url)


@pytest.mark.parametrize("spec", [s for s in PINNED.values() if s.package], ids=lambda s: s.name)
def test_the_installed_packages_carry_the_pinned_files(spec):
    assert weights_path(spec).stat().st_size == spec.num_bytes


@pytest.mark.parametrize("spec", [s for s in PINNED.values() if s.url], ids=lambda s: s.name)
def test_the_shared_files_are_the_pinned_ones(spec, shared_models, monkeypatch):
    monkeypatch.setenv("PERSONAE_CACHE", str(shared_models))
    assert weights_path(spec) == shared_models / spec.file


@pytest.mark.parametrize("entry", EMBEDDERS.values(), ids=EMBEDDERS)
def test_thresholds_are_cosines_and_centres_are_not_trusted_more_than_photos(entry):
    assert all(-1 < v < 1 for v in (entry.pair_threshold, entry.threshold, entry.same_person_cosine))
    assert entry.pair_threshold < entry.same_person_cosine


def test_a_least_score_of_the_config_wins_even_zero():
    assert min_face_score(FilterConfig(models="open")) == DETECTORS["open"].min_score > 0
    assert min_face_score(FilterConfig(models="open", min_face_score=0.0)) == 0.0


@pytest.mark.parametrize(
    ("models", "embedder", "expected"),
    [
        ("embedded", None, "embedded"),
        ("open", None, "open"),
        ("retina-face", None, "embedded"),
        ("retina-face", "open", "open"),
        ("open", "insightface", "insightface"),
    ],
)
def test_the_embedder_is_the_named_or_the_detectors_own(models, embedder, expected):
    config = FilterConfig(models=models, embedder=embedder, accept_licence=ACCEPTED)
    assert embedder_spec(config) is EMBEDDERS[expected]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.models}+{c.embedder}")
def test_every_choice_prints_a_line_a_model(config):
    lines = licences(config)
    assert lines == list(dict.fromkeys(lines))
    assert all("\n" not in line for line in lines)
    assert len(lines) == len({*DETECTORS[config.models].weights, *embedder_spec(config).weights}) + sum(
        name in (config.models, config.embedder_name) for name in ("retina-face", "insightface")
    )
    uses_insightface = "insightface" in (config.models, config.embedder_name)
    assert any("non-commercial" in line and ACCEPTED in line for line in lines) == uses_insightface


def test_a_pose_model_is_told_and_named_beside_the_face_models():
    without, config = FilterConfig(), FilterConfig(pose="blazepose")
    assert licences(config)[: len(licences(without))] == licences(without)
    assert [line.partition(":")[0] for line in licences(config)[-2:]] == [
        "blazepose-detector",
        "blazepose-landmarks-lite",
    ]
    assert all("Apache-2.0" in line for line in licences(config)[-2:])
    assert pose_names(without) == ()
    assert all(re.fullmatch(r"blazepose-[\w-]+@[0-9a-f]{8}", name) for name in pose_names(config))
    assert model_names(config) == model_names(without), "a scan does not depend on it"


def test_missing_pose_weights_are_one_line_with_the_address_and_the_place(cache, no_network):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install personae[pose]")
    with pytest.raises(InputError, match=r"mediapipe/.*pose_detection\.tflite.*put the file at .*blazepose_detection"):
        load_pose(FilterConfig(pose="blazepose"))


@pytest.mark.parametrize("models", ["embedded", "open"])
def test_what_needs_no_accepted_licence_is_free_for_any_use(models):
    config = FilterConfig(models=models)
    pinned = {*DETECTORS[models].weights, *embedder_spec(config).weights}
    assert {spec.licence for spec in pinned} <= {"public domain (CC0-1.0)", "MIT", "Apache-2.0"}


def test_retina_faces_weights_are_told_for_what_they_are():
    line = next(
        line
        for line in licences(FilterConfig(models="retina-face", accept_licence=ACCEPTED))
        if line.startswith("retina-face")
    )
    assert "non-commercial" in line
    assert "insightface" in line


@pytest.mark.parametrize("given", ["yes", True, "", ACCEPTED.upper(), f"{ACCEPTED} ", "MIT", ["x"]])
@pytest.mark.parametrize("models", ["embedded", "insightface"])
def test_a_licence_is_accepted_by_its_name_only(models, given):
    with pytest.raises(ValidationError, match=f"expected {ACCEPTED}, "):
        FilterConfig(models=models, accept_licence=given)


def test_an_unaccepted_licence_is_asked_for_by_name():
    for settings in ({"embedder": "insightface"}, {"models": "retina-face"}, {"models": "insightface"}):
        with pytest.raises(ValidationError, match=f"accept_licence: {ACCEPTED}, "):
            FilterConfig(**settings)
    assert FilterConfig(embedder="insightface", accept_licence=ACCEPTED).accept_licence == ACCEPTED


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.models}+{c.embedder}")
def test_every_choice_has_its_own_names(config, cache):
    put(cache / "buffalo_l", det_10g=b"d", w600k_r50=b"r")
    put(cache, retinaface=b"f")
    names = model_names(config)
    assert names == model_names(config)
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[\w./-]+@[\w.]+", name) for name in names)
    others = [model_names(c) for c in CONFIGS if (c.models, c.embedder_name) != (config.models, config.embedder_name)]
    assert names not in others


def test_names_follow_the_content_of_files_that_are_not_pinned(cache):
    config = FilterConfig(models="insightface", accept_licence=ACCEPTED)
    put(cache / "buffalo_l", det_10g=b"d", w600k_r50=b"r")
    before = model_names(config)
    assert [name.partition("@")[0] for name in before] == [
        "insightface-buffalo_l/det_10g.onnx",
        "insightface-buffalo_l/w600k_r50.onnx",
    ]
    put(cache / "buffalo_l", w600k_r50=b"other")
    after = model_names(config)
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": "insightface"}, r"buffalo_l\.zip"),
        ({"models": "insightface", "insightface_pack": "antelopev2"}, r"antelopev2\.zip"),
        ({"models": "insightface", "insightface_pack": "mine"}, "unknown pack 'mine'"),
        ({"models": "retina-face"}, r"releases/download/v1\.0/retinaface\.onnx"),
    ],
)
def test_what_is_missing_and_cannot_be_downloaded_is_said_in_one_line(cache, no_network, capsys, settings, said):
    for package in ("insightface", "retinaface"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install personae[dev]")
    config = FilterConfig(accept_licence=ACCEPTED, **settings)
    calls = [load_detector, model_names] + [load_embedder] * (config.embedder_name == "insightface")
    for call in calls:
        with pytest.raises(InputError, match=said) as error:
            call(config)
        assert "\n" not in str(error.value)
    assert not cache.exists() or list(cache.iterdir()) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import filter.models",
            "dlib onnxruntime insightface retinaface cv2 torch sklearn numpy.testing ai_edge_litert",
        ),
        (
            "load_detector(FilterConfig()), load_embedder(FilterConfig())",
            "onnxruntime insightface retinaface cv2 torch",
        ),
        (
            "c = FilterConfig(models='open', embedder='embedded'); licences(c), model_names(c), load_embedder(c)",
            "onnxruntime insightface retinaface cv2 torch ai_edge_litert",
        ),
        (
            "from filter.models import pose_names; c = FilterConfig(pose='vitpose'); licences(c), pose_names(c)",
            "onnxruntime insightface retinaface cv2 torch ai_edge_litert transformers",
        ),
    ],
)
def test_only_what_is_chosen_is_imported(code, absent):
    """In a fresh process: a worker that uses dlib never loads onnxruntime, and so on."""
    script = "\n".join([
        "import sys",
        "from filter.config import FilterConfig",
        "from filter.models import licences, load_detector, load_embedder, model_names",
        code,
        f"print([name for name in {absent.split()!r} if name in sys.modules])",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
