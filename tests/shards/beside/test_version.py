"""The run file's version, raised by every takedown since."""

import json

import pytest

from crawl.errors import InputError
from crawl.output import Output
from shards.beside.version import TOMBSTONES, dataset_version
from shards.config import BuildRun


def run(version):
    return BuildRun.model_validate({"output": "x", "crawl": {"root": "x"}, "publish": {"version": version}})


@pytest.mark.parametrize(("of_run", "takedowns", "version"), [("1.9.0", 0, "1.9.0"), ("1.9.3", 2, "1.9.5")])
def test_every_takedown_raises_the_last_number(tmp_path, of_run, takedowns, version):
    (tmp_path / TOMBSTONES).write_text(json.dumps({"format": 1, "version": 1 + takedowns, "sets": []}))
    assert dataset_version(run(of_run), Output(str(tmp_path))) == version


def test_without_a_takedown_it_is_the_run_files(tmp_path):
    assert dataset_version(run("2.0.1"), Output(str(tmp_path))) == "2.0.1"


@pytest.mark.parametrize("content", ["{", "[]", '{"version": null}', "{}"])
def test_a_broken_file_is_one_line(tmp_path, content):
    (tmp_path / TOMBSTONES).write_text(content)
    with pytest.raises(InputError, match=r"tombstones\.json: broken"):
        dataset_version(run("1.0.0"), Output(str(tmp_path)))


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0-rc1", "01.0.0"])
def test_only_three_numbers_are_a_version(version):
    with pytest.raises(ValueError, match=r"publish\.version"):
        run(version)
