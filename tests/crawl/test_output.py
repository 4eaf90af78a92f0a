"""A file appears whole or not at all, here and on an object store."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest

from crawl.errors import InputError, one_line
from crawl.output import Output


@pytest.fixture(params=["local", "memory"])
def output(request, tmp_path):
    return Output(str(tmp_path / "d") if request.param == "local" else f"memory://{tmp_path.name}/d")


def test_what_is_written_is_read(output):
    output.write("a/b/c.bin", b"content")
    assert output.exists("a/b/c.bin")
    assert output.read("a/b/c.bin") == b"content"
    assert output.size("a/b/c.bin") == 7
    assert output.names("a/b") == ["c.bin"]
    output.remove("a/b/c.bin")
    output.remove("a/b/c.bin")
    assert output.names("a/b") == []


def test_an_error_while_writing_leaves_what_was_there(output):
    output.write("file", b"before")

    def write():
        with output.create("file") as file:
            file.write(b"after")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert output.read("file") == b"before"
    assert output.names("") == ["file"]


def test_an_unknown_protocol_is_one_line():
    with pytest.raises(InputError, match="output: nosuch://x"):
        Output("nosuch://x")


def _fill(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        Output(path).write("big", b"x" * 5000)
    except OSError as error:
        print(one_line(error))
        sys.exit(7)


def test_a_full_disk_names_the_path_and_leaves_no_file(tmp_path):
    code = f"import sys; sys.path.insert(0, {os.getcwd()!r}); exec(open({__file__!r}).read()); _fill({str(tmp_path)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 7, result.stderr
    assert str(tmp_path / "big") in result.stdout
    assert os.strerror(errno.EFBIG) in result.stdout
    assert "bytes free" in result.stdout
    assert os.listdir(tmp_path) == []


def test_stale_temporary_files_are_removed(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / ".tmp-abc").write_bytes(b"torn")
    output = Output(str(tmp_path))
    assert output.names("shards") == []
    output.remove_stale(["shards"])
    assert os.listdir(tmp_path / "shards") == []
