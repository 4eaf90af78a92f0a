"""The classify stage, with image classifiers of a few thousand random weights, loaded as real ones are."""

import numpy as np
import pytest
from PIL import Image

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Rejection
from crawl.stage import run_pending
from filter.classify import Classified, ClassifyStage, classify_stages, judged
from filter.config import ClassifierConfig, FilterConfig, FilterRun
from filter.cut import CropStage
from filter.models import classifier_names, licences
from filter.portrait import ClassScore, Portrait

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install personae[vitpose]"
)
import torch  # noqa: E402

from filter.backends.classifier import Classifier  # noqa: E402

LABELS = {0: "clean", 1: "watermark", 2: "Logo"}


def save(folder, seed=0, **config):
    """A ConvNeXt (what the watermark classifier of BoLID's authors is), as small as it gets."""
    torch.manual_seed(seed)
    settings = transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        image_size=32,
        initializer_range=0.5,
        id2label=LABELS,
        **config,
    )
    transformers.ConvNextForImageClassification(settings).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("classifier") / "tiny-convnext")


def pictures(count, seed=1):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)) for _ in range(count)]


def by_transformers(folder, photos):
    """What the library's own pipeline says: every label's probability, a photo at a time."""
    pipeline = transformers.pipeline("image-classification", model=folder, device="cpu")
    return [{row["label"]: row["score"] for row in pipeline(photo, top_k=3)} for photo in photos]


@pytest.mark.parametrize("labels", [("watermark",), ("watermark", "logo")])
def test_probabilities_are_those_of_transformers(folder, labels):
    photos = pictures(3)
    config = ClassifierConfig(name="watermark", model=folder, labels=labels)
    names = {label.lower(): label for label in LABELS.values()}
    wanted = [sum(row[names[label]] for label in labels) for row in by_transformers(folder, photos)]
    assert Classifier(config).probabilities(photos) == pytest.approx(wanted, abs=1e-6)
    assert len(set(np.round(wanted, 3))) == 3, "photos differ to it, or this compares constants"


def test_labels_that_hold_together_are_not_added(tmp_path):
    folder = save(tmp_path / "multi", problem_type="multi_label_classification")
    photos = pictures(2)
    both = Classifier(ClassifierConfig(name="mark", model=folder, labels=("watermark", "logo"))).probabilities(photos)
    rows = by_transformers(folder, photos)
    assert both == pytest.approx([max(row["watermark"], row["Logo"]) for row in rows], abs=1e-6)


def test_thresholds():
    watermark = ClassifierConfig(name="watermark", model="m", labels=("x",), max_probability=0.5)
    adult = ClassifierConfig(name="minor", model="m", labels=("adult",), min_probability=0.9)
    noted = ClassifierConfig(name="noted", model="m", labels=("x",))
    configs = (watermark, adult, noted)
    assert judged(configs, (0.6, 0.95, 0.1)) == Rejection("classify", "watermark", 0.6, 0.5)
    assert judged(configs, (0.5, 0.8, 0.1)) == Rejection("classify", "minor", 0.8, 0.9)
    passed = (ClassScore("watermark", 0.5), ClassScore("minor", 0.9), ClassScore("noted", 1.0))
    assert judged(configs, (0.5, 0.9, 1.0)) == Classified(passed)


def run_of(output, *classifiers, **more):
    settings = {"size_px": 64, "classifiers": classifiers, **more}
    return FilterRun.model_validate(
        {"output": str(output), "crawl": {"root": "photos"}, "filter": settings, "shards": {"buckets": 1}}
    )


def ended(run, tables):
    output = Output(run.output)
    done = run_pending([*classify_stages(run, output), CropStage(run, output, {})], 0, tables, lambda *_: None)
    return done, {e.key: e for e in tables.read("crop", 0, Portrait)}


def test_a_photo_over_the_threshold_ends_there_and_the_others_carry_what_was_said(verified, tmp_path, folder):
    tables, keys = verified
    plain = {"name": "watermark", "model": folder, "labels": ["watermark"]}
    done, rows = ended(run_of(tmp_path, plain), tables)
    assert done == ["classify", "crop"]
    assert set(rows) == {keys[0], keys[1], keys[3], keys[4]}
    said = {key: entry.row.classes[0].probability for key, entry in rows.items() if entry.row is not None}
    assert set(said) == {keys[0], keys[1], keys[3]}
    assert len(set(said.values())) == 3
    assert all("tiny-convnext@" in " ".join(rows[key].row.models) for key in said)
    assert rows[keys[4]].rejection.stage == "decode"

    least, middle, most = sorted(said, key=said.get)
    threshold = (said[middle] + said[most]) / 2
    done, rows = ended(run_of(tmp_path, plain | {"max_probability": threshold}), tables)
    assert done == ["classify", "crop"]
    rejection = rows[most].rejection
    assert (rejection.stage, rejection.reason, rejection.threshold) == ("classify", "watermark", threshold)
    assert rejection.value == pytest.approx(said[most])
    assert rows[least].row is not None
    assert rows[middle].row is not None
    assert ended(run_of(tmp_path, plain | {"max_probability": threshold}), tables)[0] == []


def test_without_classifiers_nothing_is_asked(verified, tmp_path):
    run = run_of(tmp_path)
    done, rows = ended(run, verified[0])
    assert done == ["crop"]
    assert {entry.row.classes for entry in rows.values() if entry.row is not None} == {()}


def test_names_and_licences(folder):
    config = FilterConfig(
        classifiers=[
            {"name": "watermark", "model": folder, "labels": ["watermark"]},
            {"name": "nsfw", "model": "someone/nsfw", "revision": "abc", "labels": ["nsfw"]},
        ]
    )
    ours, hub = classifier_names(config)
    assert ours.startswith("tiny-convnext@")
    assert hub == "someone/nsfw@abc"
    assert f"{hub}: as its publisher states (huggingface.co/someone/nsfw)" in licences(config)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"labels": ("blurred",)}, "filter.classifiers: watermark: labels: .* has no 'blurred', it has clean, logo"),
        ({"model": "/nowhere/at-all"}, "filter.classifiers: watermark: /nowhere/at-all: cannot be loaded"),
    ],
)
def test_bad_classifiers_are_one_line(folder, changes, line):
    config = ClassifierConfig(name="watermark", model=folder, labels=("watermark",)).model_copy(update=changes)
    with pytest.raises(InputError, match=line) as error:
        Classifier(config)
    assert "\n" not in str(error.value)


def test_each_name_once():
    one = {"name": "watermark", "model": "m", "labels": ["x"]}
    with pytest.raises(ValueError, match="each name once"):
        FilterConfig(classifiers=[one, one])


def test_a_photo_that_fails_costs_its_own_row(verified, tmp_path, folder):
    class Failing:
        def probabilities(self, photos):
            if any(photo.getpixel((0, 0))[0] == 40 for photo in photos):
                raise ValueError("cannot look at this")
            return [0.25] * len(photos)

    tables, keys = verified
    run = run_of(tmp_path, {"name": "watermark", "model": folder, "labels": ["watermark"]})
    stage = ClassifyStage(run, Output(run.output))
    stage._classifiers = [Failing()]
    stage.run(0, "f", lambda *_: None)
    found = {e.key: e for e in tables.read("classify", 0, Classified)}
    assert found[keys[1]].rejection.reason == "error"
    assert found[keys[0]].row == found[keys[3]].row == Classified((ClassScore("watermark", 0.25),))
