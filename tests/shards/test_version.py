"""The later of the run file's version and the one that a removal raised is the dataset's."""

import pytest

from crawl.errors import InputError
from crawl.output import Output
from shards.config import BuildRun
from shards.version import FILE, bump_version, dataset_version


def run(version):
    return BuildRun.model_validate({"output": "x", "crawl": {"root": "x"}, "publish": {"version": version}})


def test_a_bump_raises_the_last_number_and_outlives_the_run_file(tmp_path):
    output = Output(str(tmp_path))
    assert dataset_version(run("1.9.0"), output) == "1.9.0"
    assert [bump_version(run("1.9.0"), output) for _ in range(2)] == ["1.9.1", "1.9.2"]
    assert dataset_version(run("1.9.0"), output) == "1.9.2"
    assert dataset_version(run("1.10.0"), output) == "1.10.0"  # by numbers, not by letters
    assert bump_version(run("1.10.0"), output) == "1.10.1"


def test_a_broken_version_is_one_line(tmp_path):
    (tmp_path / FILE).write_text("one")
    with pytest.raises(InputError, match="'one' is no MAJOR"):
        dataset_version(run("1.0.0"), Output(str(tmp_path)))


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0-rc1", "01.0.0"])
def test_only_three_numbers_are_a_version(version):
    with pytest.raises(ValueError, match=r"publish\.version"):
        run(version)
