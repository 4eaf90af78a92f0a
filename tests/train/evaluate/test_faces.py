"""Face-Sim is the embedder's own cosine, on a real face, whatever the size of the picture."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from filter.config import FilterConfig
from filter.models import load_detector, load_embedder
from shards.format.sample import Sample
from train.evaluate.faces import Faces, enlarged, similarities
from train.evaluate.settings import EvaluateSettings
from train.portraits import Portraits


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
    """A public-domain portrait, and another cut of it."""
    picture = Image.fromarray(data.astronaut()).crop((60, 0, 380, 320))
    return picture, picture.rotate(8, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def meter():
    return Faces(EvaluateSettings(embedders=("embedded",)))


@pytest.fixture(scope="module")
def sample(astronaut, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "one.png"
    astronaut[0].save(path)
    return Portraits(FilterConfig(size_px=320)).cut(str(path))


def test_it_is_the_embedders_own_cosine(meter, astronaut):
    detector, embedder = load_detector(FilterConfig()), load_embedder(FilterConfig(models="open", embedder="embedded"))
    vectors = []
    for picture in astronaut:
        image = np.asarray(picture)
        face = max(detector.detect(image, 48), key=lambda face: face.side_px)
        vectors.append(embedder.embed(image, [face])[0].astype(np.float64))
    looks = [meter.look(picture) for picture in astronaut]
    found = looks[0].vectors["embedded"] @ looks[1].vectors["embedded"]
    assert found == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-12)
    assert 0.95 < found < 1


def test_sims_to_reference_others_centre_and_the_gap_between(meter, astronaut, sample):
    person = meter.likeness([sample], [sample])["embedded"]
    vector = meter.look(astronaut[1]).vectors["embedded"]
    told = similarities(vector, person)
    assert told["face_sim_reference"] == pytest.approx(float(vector @ meter.known(sample)["embedded"]))
    assert told["face_sim_centre"] == pytest.approx(told["face_sim_reference"])
    assert told["copy_paste_gap"] == pytest.approx(0, abs=1e-6), "the photo and the other photo are one"
    alone = similarities(vector, meter.likeness([sample], [])["embedded"])
    assert alone["face_sim_held_out"] is alone["copy_paste_gap"] is None


def test_what_nothing_can_be_compared_with_is_no_fault_of_the_picture(meter, sample):
    """A person with one photo has no other photos: no number, so that none counts as 0 either."""
    alone = meter.likeness([sample], [])
    metrics = ["no_face", "face_sim_reference", "face_sim_centre"]
    for vectors, without in ((meter.seen(sample), False), (None, True)):
        told = list(meter.numbers(alone, vectors))
        assert [metric for metric, _, _ in told] == metrics
        assert told[0][2] == without
        assert [value is None for _, _, value in told[1:]] == [without] * 2


def test_a_small_picture_is_enlarged_and_a_picture_of_nobody_has_no_face(meter, astronaut):
    assert meter.look(astronaut[0].resize((96, 96), Image.Resampling.LANCZOS)) is not None
    assert meter.look(Image.new("RGB", (64, 64))) is None
    assert enlarged(astronaut[0]) is astronaut[0]


def test_a_photo_whose_face_the_detector_misses_is_embedded_by_its_landmarks(meter, sample, monkeypatch):
    seen = meter.known(sample)["embedded"]
    blind = Faces(EvaluateSettings(embedders=("embedded",)))
    monkeypatch.setattr(blind, "_detector", type("Blind", (), {"detect": lambda self, image, least: []})())
    assert isinstance(sample, Sample)
    assert float(blind.known(sample)["embedded"] @ seen) > 0.97
