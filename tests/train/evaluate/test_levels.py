"""Evaluation from end to end on real faces: what photos score, a copying method, and one that draws no faces."""

import itertools
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from filter.config import FilterConfig
from filter.models import load_detector, load_embedder
from train.__main__ import main
from train.evaluate.meters import photo
from train.evaluate.methods import methods
from train.portraits import Portraits

PEOPLE, PHOTOS = ("fr_obama", "lfw_Ariel_Sharon", "lfw_Arnold_Schwarzenegger"), 3
SETTINGS = (
    "sets=[out_of_domain]", "people=3", "photos=2", "references=1", "images=3", "steps=1", "merge_step=0", "guidance=1",
)  # fmt: skip
PROMPTS = ['prompts=[{"name": "plain", "whole": "a photo of a man"}]']


@pytest.fixture(scope="module")
def folder(shared, tmp_path_factory):
    """Real photos: FOLDER/PERSON/*.jpg."""
    made = tmp_path_factory.mktemp("photos")
    for name in PEOPLE:
        (made / name).mkdir()
        for path in sorted((shared / "photos" / "identities" / name).iterdir())[:PHOTOS]:
            shutil.copy(path, made / name)
    return made


@pytest.fixture(scope="module")
def vectors(folder):
    """Person → the embedder's own vectors of the training crops; the first is the reference."""
    detector, embedder = load_detector(FilterConfig()), load_embedder(FilterConfig(models="open", embedder="embedded"))
    portraits = Portraits(FilterConfig(models="embedded"))

    def vector(path):
        image = np.asarray(photo(portraits.cut(str(path))))
        face = max(detector.detect(image, 48), key=lambda face: face.side_px)
        return embedder.embed(image, [face])[0].astype(np.float64)

    return {name: np.stack([vector(path) for path in sorted((folder / name).iterdir())]) for name in PEOPLE}


@pytest.fixture(scope="module")
def run(tmp_path_factory, people, trained_run):
    return trained_run(tmp_path_factory.mktemp("runs") / "faceless", people, kind="ip_adapter", encoder="base")


@pytest.fixture
def scores(run, folder, tmp_path):
    """(folder of the output) → {(method, metric): mean}, by the command itself."""

    def evaluate(name="out"):
        out = tmp_path / name
        words = ["evaluate", run, *SETTINGS, *PROMPTS, "--out-of-domain", str(folder), "--output", str(out)]
        assert main(words) == 0
        return {(s["method"], s["metric"]): s for s in json.loads((out / "scores.json").read_text())["scores"]}

    return evaluate


@pytest.mark.slow
def test_photos_stand_beside_a_method_that_draws_no_faces(scores, vectors, tmp_path, capsys):
    found = scores()
    assert found["faceless", "no_face"]["mean"] == 1
    assert ("faceless", "face_sim_reference") not in found
    assert found["real", "no_face"]["mean"] == found["strangers", "no_face"]["mean"] == 0

    own = [float(v[0] @ other) for v in vectors.values() for other in v[1:]]
    assert found["real", "face_sim_reference"]["mean"] == pytest.approx(np.mean(own), abs=1e-6)
    assert found["real", "face_sim_reference"]["images"] == 6
    between = [float(a @ b) for v in vectors.values() for a, b in itertools.permutations(v[1:], 2)]
    assert found["real", "face_sim_held_out"]["mean"] == pytest.approx(np.mean(between), abs=1e-6), "never with itself"
    strange = [float(a[0] @ b[0]) for a, b in itertools.permutations(vectors.values(), 2)]
    assert found["strangers", "face_sim_reference"]["mean"] == pytest.approx(np.mean(strange), abs=1e-6)
    assert found["strangers", "face_sim_reference"]["images"] == 6
    for metric in ("face_sim_reference", "face_sim_held_out", "face_sim_centre"):
        assert found["real", metric]["low"] > found["strangers", metric]["high"] + 0.05, metric
    assert abs(found["real", "copy_paste_gap"]["mean"]) < 0.1

    said = capsys.readouterr().out
    assert "(real)" in said
    assert "(strangers)" in said
    assert "9 pictures measured" in said
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert page.count('<tr class="level">') >= 2
    assert "real: other photos of the same person; strangers: photos of the others of this set" in page


@pytest.mark.slow
def test_a_method_that_yields_photos_scores_as_photos_do(scores, vectors, monkeypatch, tmp_path):
    """By its first seed the reference itself, which the gap gives away; by the next ones the person's other photos."""

    def drawn(base, adapter, shots, settings, *_):
        for shot in shots:
            samples = (*shot.person.references, *shot.person.others)
            yield shot, photo(samples[shot.seed - settings.seed])

    monkeypatch.setattr("train.evaluate.pictures.drawn", drawn)
    assert scores()["faceless", "no_face"]["mean"] == 0
    table = pq.read_table(tmp_path / "out" / "metrics.parquet").to_pylist()
    own = [row for row in table if row["method"] == "faceless"]
    found = {(row["metric"], row["seed"], row["person"]): row["value"] for row in own}
    everybody = dict.fromkeys(row["person"] for row in own)
    assert len(everybody) == len(vectors)
    for person, v in zip(everybody, vectors.values(), strict=True):
        held_out = np.mean([float(v[0] @ other) for other in v[1:]])
        assert found["face_sim_reference", 42, person] == pytest.approx(1, abs=1e-6)
        assert found["face_sim_held_out", 42, person] == pytest.approx(held_out, abs=1e-6)
        assert found["copy_paste_gap", 42, person] == pytest.approx(1 - held_out, abs=1e-6)
        for i, other in enumerate(v[1:]):
            assert found["face_sim_reference", 43 + i, person] == pytest.approx(float(v[0] @ other), abs=1e-6)


def test_no_run_takes_a_levels_name(run, tmp_path):
    shutil.copytree(run, tmp_path / "real")
    assert [method.name for method in methods([str(tmp_path / "real"), run])] == ["real-2", "faceless"]
