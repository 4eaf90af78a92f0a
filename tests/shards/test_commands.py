"""The commands of single stages, with right and wrong arguments, and on a disk that fills up."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.photos import make_photos

ROOT = Path(__file__).parents[2]
RUN = """
output: {folder}/out
crawl: {{root: {folder}/photos}}
filter: {{min_side_px: 256, min_face_px: 128, size_px: 128}}
shards: {{buckets: 2}}
"""


def run(*arguments, code=0, **options):
    command = [sys.executable, "-m", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200, **options)
    assert result.returncode == code, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    make_photos(folder / "photos", views=3)
    (folder / "run.yaml").write_text(RUN.format(folder=folder))
    return folder


@pytest.mark.slow
def test_stage_by_stage_ends_in_the_same_tables_as_a_build(folder):
    config = folder / "run.yaml"
    assert "26 found, 26 stored" in run("crawl", config).stdout
    assert "26 photos" in run("filter", config).stdout
    assert run("caption", config).stdout
    tables = folder / "out" / "tables"
    before = {f: f.stat().st_mtime_ns for f in tables.glob("*/*.parquet")}
    assert "Funnel" in run("shards", "build", config).stdout
    assert {f: f.stat().st_mtime_ns for f in before} == before, "the build takes over what the stages made"
    assert list((folder / "out" / "shards").glob("*.tar"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["crawl", "nowhere.yaml"], "nowhere.yaml: no such config file"),
        (["shards", "info", "/nowhere"], "no finished dataset here"),
        (["shards", "verify", "/nowhere"], "/nowhere"),
        (["shards", "report", "/nowhere"], "/nowhere: no finished dataset here"),
        (["shards", "serve", "/nowhere", "--port", "0"], "/nowhere: no finished dataset here"),
        (["shards", "serve", "/nowhere", "--port", "99999"], "--port: 99999: not between 0 and 65535"),
        (["shards", "verify", "/nowhere.tar"], "/nowhere.tar: no such file"),
        (["shards", "build"], "required"),
        (["shards"], "required"),
        (["shards", "frobnicate"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, said):
    result = run(*arguments, code=1 if arguments[:2] == ["shards", "verify"] and "tar" not in arguments[2] else 2)
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("package", ["crawl", "filter", "caption", "shards"])
def test_every_command_has_help(package):
    assert "usage: python -m" in run(package, "--help").stdout


@pytest.mark.parametrize("package", ["filter", "caption"])
def test_a_stage_says_which_one_must_run_first(package, tmp_path):
    (tmp_path / "photos" / "p").mkdir(parents=True)
    (tmp_path / "photos" / "p" / "x.jpg").write_bytes(b"x")
    (tmp_path / "run.yaml").write_text(RUN.format(folder=tmp_path))
    result = run(package, tmp_path / "run.yaml", code=2)
    assert "run python -m" in result.stderr


def _small_files_only():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line_and_the_same_command_goes_on(folder, tmp_path):
    overrides = [f"output={tmp_path}/out"]
    result = run("crawl", folder / "run.yaml", *overrides, code=2, preexec_fn=_small_files_only)
    assert f"{tmp_path}/out/photos/" in result.stderr
    assert "bytes free" in result.stderr
    assert "Traceback" not in result.stderr
    left = [f for f in (tmp_path / "out").rglob("*") if f.is_file()]
    assert all(os.path.getsize(f) <= 20_000 and not f.name.startswith(".tmp-") for f in left)
    assert "26 found, 26 stored" in run("crawl", folder / "run.yaml", *overrides).stdout
