"""A folder of every bad file there is: one reason each, exit code 0, and the good photos of it kept."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from demo.photos import make_photos

ROOT = Path(__file__).parents[2]
RUN = """
output: {folder}/out
crawl: {{root: {folder}/photos, max_bytes: 30_000_000}}
filter: {{min_side_px: 256, min_face_px: 128, size_px: 128}}
shards: {{buckets: 2}}
engine: {{cpus: 2}}
"""


@pytest.mark.slow
def test_one_reason_each_and_exit_code_zero(tmp_path, hostile_images):
    make_photos(tmp_path / "photos", views=4)
    folder = tmp_path / "photos" / "group-1"
    expected = {}
    for number, (name, (content, reason)) in enumerate(sorted(hostile_images.items())):
        expected[f"group-1/{number:03d} {name.replace('/', '_')}"] = (content, reason)
        (folder / f"{number:03d} {name.replace('/', '_')}").write_bytes(content)
    os.mkfifo(folder / "a pipe.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "outside.jpg").symlink_to("/etc/hostname")
    (folder / "new\nline.jpg").write_bytes(b"\xff\xd8\xff")
    Path(os.fsdecode(bytes(folder) + b"/not-utf8-\xff.jpg")).write_bytes(b"")
    with (folder / "huge.jpg").open("wb") as huge:
        huge.truncate(10_000_000_000)
    (tmp_path / "run.yaml").write_text(RUN.format(folder=tmp_path))
    command = [sys.executable, "-m", "shards", "build", str(tmp_path / "run.yaml")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr

    rows = {row["source"]: row for row in pq.read_table(tmp_path / "out" / "ledger.parquet").to_pylist()}
    assert len(rows) == sum(not f.is_dir() for f in (tmp_path / "photos").rglob("*"))
    assert all(row["reason"] or row["status"] == "kept" for row in rows.values())
    for source, (content, reason) in expected.items():
        first = _first_with(content, expected)
        if source == first and reason:
            assert rows[source]["reason"] == reason, (source, rows[source])
        elif source == first:
            assert rows[source]["stage"] not in ("crawl", "decode"), (source, rows[source])
    odd = {
        "a pipe.jpg": "not_a_file",
        "dangling.jpg": "dangling_link",
        "outside.jpg": "unsafe_link",
        "huge.jpg": "too_large",
    }
    assert {name: rows[f"group-1/{name}"]["reason"] for name in odd} == odd
    assert sum(row["status"] == "kept" for row in rows.values()) >= 8


def _first_with(content, expected):
    """Of the same bytes under several names the scan meets one first; which is not this test's business."""
    digest = hashlib.sha256(content).digest()
    same = [s for s, (c, _) in expected.items() if hashlib.sha256(c).digest() == digest]
    return same[0] if len(same) == 1 else None
