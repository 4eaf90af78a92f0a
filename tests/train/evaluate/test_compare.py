"""`python -m train compare`: the same shards and budget for all; one table, one picture; nothing is trained twice."""

import json

import pytest
import yaml
from PIL import Image

from crawl.errors import InputError
from train.__main__ import main


@pytest.fixture
def compare(tmp_path, people, settings, faces):
    """Run files by name and what differs in them; the exit code."""
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(settings().model_dump(mode="json")))

    def call(files, *words):
        paths = []
        for name, keys in files.items():
            document = {
                "output": "elsewhere", "data": {"dataset": "none", "size_px": 32},
                "loop": {"steps": 9, "batch_size": 2},
                "adapter": {"kind": "ip_adapter", "encoder": "base", "keys": name, "values": name}, **keys,
            }  # fmt: skip
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
            paths.append(str(tmp_path / f"{name}.yaml"))
        return main(
            ["compare", *paths, *words, "--data", people, "--steps", "2", "--output", str(tmp_path / "out"),
             "--config", str(small)]
        )  # fmt: skip

    return call


@pytest.mark.slow
def test_it_ends_in_one_table_and_one_picture_and_trains_nothing_twice(compare, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    budget = ("loop.train_unet=true", "loop.gauge_samples=4")
    assert compare({"mean": {}, "max": {}}, *budget) == 0
    lines = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [line["run"] for line in lines] == ["mean", "max"]
    assert all(line["swap_gap_low"] <= line["swap_gap"] <= line["swap_gap_high"] for line in lines)
    metrics = {score["metric"] for score in lines[0]["scores"]}
    assert {"face_sim_reference", "clip_t_tiny_clean", "kid_tiny"} <= metrics
    with Image.open(tmp_path / "out" / "comparison.png") as grid:
        assert grid.size == (3 * 166 + 6, 34 + 2 * 166), "reference and two runs; two people"
    capsys.readouterr()
    assert compare({"mean": {}, "max": {}}, *budget) == 0
    said = capsys.readouterr().out
    assert said.count("nothing to do") == 2
    assert "0 made now" in said
    *_, row = [line for line in said.splitlines() if line.startswith("│ max ")]
    for score in lines[1]["scores"]:  # on a narrow terminal too
        assert f"{score['mean']:.3f}" in row


def test_another_budget_is_refused_naming_the_field(compare):
    with pytest.raises(InputError, match=r"^loop.batch_size: 3 in max, 2 in mean: a comparison needs the same"):
        compare({"mean": {}, "max": {"loop": {"steps": 9, "batch_size": 3}}})
