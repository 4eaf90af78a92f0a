"""The whole build with a pose model: keypoints in the shards, nothing to do afterwards, the same bytes again."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from demo.photos import make_photos

ROOT = Path(__file__).parents[2]
RUN = """
output: {folder}/out
crawl: {{root: {root}}}
filter: {{min_side_px: 256, min_face_px: 96, size_px: 128, face_size_px: 64, pose: blazepose}}
shards: {{buckets: 2}}
engine: {{cpus: 1}}
"""
PEOPLE = ("astronaut", "group-1", "group-3")
pytestmark = pytest.mark.slow


def run(shared, *arguments):
    environment = {**os.environ, "PERSONAE_CACHE": str(shared / "models")}
    command = [sys.executable, "-m", *map(str, arguments)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def published(folder):
    files = sorted((folder / "out" / "shards").iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def samples(folder):
    for path in sorted((folder / "out" / "shards").glob("*.tar")):
        with tarfile.open(path, "r:") as tar:
            yield from (json.load(tar.extractfile(member)) for member in tar if member.name.endswith(".json"))


def test_keypoints_reach_the_shards(shared, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install personae[pose]")
    root = tmp_path / "photos"
    make_photos(root, views=4)
    for folder in root.iterdir():
        if folder.name not in PEOPLE:
            shutil.rmtree(folder)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.yaml").write_text(RUN.format(folder=tmp_path / name, root=root))
    one, other = tmp_path / "one", tmp_path / "other"

    first = run(shared, "shards", "build", one / "run.yaml")
    assert "blazepose-detector: Apache-2.0" in first.stderr
    assert "XNNPACK" not in first.stderr
    rows = list(samples(one))
    with_body = [row for row in rows if row["keypoints_reason"] == ""]
    assert len(with_body) >= len(rows) / 2 > 0
    for row in with_body:
        (left, _), (right, _) = row["keypoints"][:2]
        assert left > right, "who faces the camera has the left shoulder on the photo's right"
        assert max(row["keypoint_scores"][:2]) >= 0.5
        assert any(name.startswith("blazepose-landmarks-lite@") for name in row["models"])
        outside = [not (0 <= x <= 128 and 0 <= y <= 128) for x, y in row["keypoints"]]
        assert all(score == 0 for score, out in zip(row["keypoint_scores"], outside, strict=True) if out)
    assert "all promises hold" in run(shared, "shards", "verify", one / "out").stdout
    assert "12 body keypoints" in (one / "out" / "README.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in (one / "out" / "tables").glob("*/*.parquet")}
    assert {path.parent.name for path in before} >= {"scan", "verify", "pose", "crop"}
    assert "Nothing to do" in run(shared, "shards", "build", one / "run.yaml").stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before

    for command in ("crawl", "filter", "caption"):
        run(shared, command, other / "run.yaml")
    run(shared, "shards", "build", other / "run.yaml")
    assert published(other) == published(one)
