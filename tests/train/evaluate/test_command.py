"""`python -m train evaluate` from end to end on the tiny base: files, page, what is not done twice, faults."""

import io
import json

import pyarrow.parquet as pq
import pytest
import yaml

from train.__main__ import main
from train.evaluate.rows import described
from train.evaluate.settings import EvaluateSettings

SCORES = (
    "face_sim_reference", "copy_paste_gap", "no_face", "clip_t_tiny_clean", "clip_t_tiny_clean_body",
    "clip_t_tiny_thesis", "clip_i_tiny_plain", "clip_i_tiny_photo", "fid_tiny", "kid_tiny", "is_tiny", "face_div_tiny",
    "pose_oks", "no_pose",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, people, trained_run):
    folder = tmp_path_factory.mktemp("runs")
    ip = trained_run(folder / "ip", people, kind="ip_adapter", encoder="base")
    split = trained_run(
        folder / "split<b>", people, kind="split_prompt", version="v1", lora={"rank": 2}, parts=["background"]
    )
    return [ip, split]


@pytest.fixture
def command(tmp_path, settings, faces):
    """Runs it with small settings; the exit code."""

    def call(*words, **keys):
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(settings(**keys).model_dump(mode="json")))
        return main(["evaluate", *words, "--config", str(path), "--output", str(tmp_path / "out")])

    return call


@pytest.mark.slow
def test_methods_side_by_side(command, runs, tmp_path, capsys):
    assert command(*runs, pose="blazepose") == 0
    out = tmp_path / "out"
    document = json.loads((out / "scores.json").read_text())
    found = {(score["method"], score["metric"]) for score in document["scores"]}
    assert {(method, metric) for method in ("ip", "split<b>") for metric in SCORES} <= found
    assert document["made_with"]["torch-fidelity"] == "0.4.0"
    assert document["models"]["clip"] == "tiny"
    by_metric = {(s["method"], s["metric"]): s for s in document["scores"]}
    assert by_metric["ip", "no_face"]["mean"] == 0
    assert -1 <= by_metric["ip", "face_sim_reference"]["mean"] <= 1
    assert by_metric["ip", "clip_i_tiny_plain"]["images"] == 4, "two people by two seeds"
    assert not by_metric["ip", "fid_tiny"]["headline"]
    assert by_metric["ip", "pose_oks"]["mean"] == by_metric["ip", "pose_pck"]["mean"] == 1, "the photos' own pose"
    assert by_metric["ip", "pose_literal"]["mean"] == pytest.approx(0, abs=1e-9)
    assert not any(score["metric"] in ("fid", "kid", "is") for score in document["scores"])

    table = pq.read_table(out / "metrics.parquet").to_pylist()
    means = [row["value"] for row in table if (row["method"], row["metric"]) == ("ip", "face_sim_reference")]
    assert sum(means) / len(means) == pytest.approx(by_metric["ip", "face_sim_reference"]["mean"])
    assert (out / table[0]["picture"]).is_file()

    page = (out / "evaluation.html").read_text()
    assert "split&lt;b&gt;" in page
    assert "split<b>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/") == 2 * (1 + 2), "two people: a reference and a picture of each run"
    assert "4 pictures of 2 people" in page

    capsys.readouterr()
    before = (out / "metrics.parquet").read_bytes()
    assert command(*runs, pose="blazepose") == 0
    assert "8 pictures measured, 0 made now" in capsys.readouterr().out
    assert (out / "metrics.parquet").read_bytes() == before
    assert json.loads((out / "scores.json").read_text()) == document
    assert command(runs[0], steps=2) == 0
    assert "4 pictures measured, 6 made now" in capsys.readouterr().out, "two of them without anybody"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "nothing: no such run, checkpoint or file"),
        (["people=2"], "name a run"),
        (["RUN", "people=0"], "people: Input should be greater than or equal to 1 (got 0)"),
        (["RUN", "peple=2"], "peple: unknown key (did you mean people?)"),
        (["RUN", "merge_step=3"], "merge_step: 3 is more than steps (1)"),
        (["RUN", "embedders=[insightface]"], "insightface-non-commercial"),
        (["RUN", "size_px=34"], "--size-px: 34 is no multiple of 8"),
        (["RUN", "--data", "nowhere"], "--data: nowhere: no dataset here"),
        (["RUN", "sets=[out_of_train]"], "--data: nobody to make pictures of"),
        (["RUN", "clip=/nowhere/at/all"], "clip: /nowhere/at/all: cannot be loaded"),
    ],
)
def test_faults_are_one_line(command, runs, words, says, capsys):
    from crawl.errors import exit_with_one_line

    code = exit_with_one_line(lambda: command(*(runs[0] if word == "RUN" else word for word in words)))
    errors = capsys.readouterr().err.strip().splitlines()
    assert code != 0
    assert says in errors[-1]
    assert len(errors) == 1


def test_a_random_network_never_has_a_published_name():
    assert described("fid_tiny").title == "fid_tiny"
    assert described("fid").title == "FID"
    assert "random network" in described("clip_t_tiny_clean").about


def test_shipped_settings_are_sound(pytestconfig):
    files = sorted((pytestconfig.rootpath / "configs" / "evaluate").glob("*.yaml"))
    assert [file.stem for file in files] == ["thesis", "tiny"]
    for file in files:
        EvaluateSettings.model_validate(yaml.safe_load(io.StringIO(file.read_text())))
