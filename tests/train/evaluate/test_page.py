"""Numbers of different models never share a table, and a judge that is not independent is named."""

import pytest

from train.evaluate.methods import methods
from train.evaluate.page import tables
from train.evaluate.results import Results
from train.evaluate.scores import Score


@pytest.fixture
def results(tmp_path, people, trained_run, settings):
    run = trained_run(tmp_path / "faceid", people, kind="ip_adapter", encoder="base")
    (method,) = methods([run])
    scores = [
        Score("faceid", "in_train", "face_sim_reference", model, value, 0.1, 0.9, 4, 2)
        for model, value in (("dlib@1", 0.7), ("arcface@2", 0.2))
    ]
    scores.append(Score("faceid", "in_train", "no_face", "embedded", 0.25, None, None, 4, 2))
    scores.append(Score("faceid", "in_train", "fid", "inception", 88.0, None, None, 4, 2, False, "4 generated"))
    models = {"detector": "embedded", "face embedded": "dlib@1", "face open": "arcface@2"}
    return Results([method], [], [], scores, settings(embedders=("embedded", "open")), models, {})


def test_each_embedder_has_a_table_of_its_own(results):
    dlib, arcface, pictures = tables(results, "in_train")
    assert (dlib.model, arcface.model, pictures.model) == ("dlib@1", "arcface@2", "inception")
    for table, wanted in ((dlib, "0.700"), (arcface, "0.200")):
        ((name, cells),) = table.rows
        shown = {column.title: cell for column, cell in zip(table.columns, cells, strict=True)}
        assert name == "faceid"
        assert shown["to references"].text == wanted
        assert shown["no face"].text == "0.250", "the detector's, beside both"
        assert shown["to centre"] is None
    assert not pictures.rows[0][1][0].headline
    assert list(pictures.notes) == ["4 generated"]


def test_an_embedder_that_a_method_saw_in_training_is_named(results, monkeypatch):
    assert not any("not independent" in note for table in tables(results, "in_train") for note in table.notes)
    monkeypatch.setattr(type(results.methods[0]), "trained_with", property(lambda method: "open"))
    dlib, arcface, _ = tables(results, "in_train")
    assert "not independent: faceid saw this embedder in training" in arcface.notes
    assert not dlib.notes


def test_it_is_the_bases_embedder_where_the_method_asks_for_faces(tmp_path, people, trained_run, results):
    assert results.methods[0].trained_with is None
    (method,) = methods([trained_run(tmp_path / "id", people, kind="photomaker", version="v1")])
    assert method.trained_with is None
    settings = method.run.adapter.model_copy(update={"version": "v2"})
    run = method.run.model_copy(update={"adapter": settings})
    assert type(method)(method.name, method.source, run, 1, "").trained_with == "embedded"
