"""A photo that kills its process costs one row; a worker killed from outside costs none."""

import importlib
import os
import signal
import subprocess
import sys

import pytest

from crawl.output import Output
from filter.isolate import Journal, OneAtATime

CHILD = """
import os, signal

def start(offset):
    return offset

def work(offset, number):
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number + offset, os.getpid()
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "childs_work.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("childs_work")


def test_only_the_photo_that_kills_is_lost(child):
    with OneAtATime(child.start, child.work, 10) as alone:
        results = [alone.run(n) for n in (1, -1, 2, 3)]
    assert [r and r[0] for r in results] == [11, None, 12, 13]
    assert results[2][1] == results[3][1], "the child is kept while it lives"


def test_an_exception_is_no_crash(child):
    with OneAtATime(child.start, child.work, 0) as alone, pytest.raises(TypeError):
        alone.run("text")


def _hold_and_die(folder, how):
    with Journal(Output(folder), "scan", 3) as journal:
        journal.hold("k1")
        journal.hold("k2")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "raise":
            raise ValueError("an ordinary fault")


def _run(folder, how):
    call = f"_hold_and_die({folder!r}, {how!r})"
    code = f"import sys; sys.path.insert(0, {os.getcwd()!r}); exec(open({__file__!r}).read()); {call}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode


def test_a_death_is_remembered_and_an_exception_is_not(tmp_path):
    for how, died in [("end", False), ("raise", False), ("kill", True)]:
        folder = str(tmp_path / how)
        _run(folder, how)
        with Journal(Output(folder), "scan", 3) as journal:
            assert journal.somebody_died is died, how
        with Journal(Output(folder), "scan", 3) as journal:
            assert journal.somebody_died is False, "a bucket that was finished is not suspected again"
