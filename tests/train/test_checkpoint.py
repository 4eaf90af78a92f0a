"""Checkpoints are whole or absent, whatever happens while they are written."""

import errno
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from crawl.errors import InputError
from train.checkpoint import Meta, find, folders, latest, open_checkpoint, prune, save


@pytest.fixture
def meta(tiny_run):
    def make(step):
        return Meta(step=step, run=tiny_run(), data="digest")

    return make


def tensors(value):
    return {name: {"adapter.a": torch.full((3, 2), float(value))} for name in ("weights", "optimizer")}


def test_what_is_written_comes_back(tmp_path, meta):
    save(tmp_path, meta(5), tensors(5))
    found, problems = latest(tmp_path)
    assert problems == []
    assert found.meta.step == 5
    assert found.meta.run == meta(5).run
    assert torch.equal(found.tensors("weights")["adapter.a"], torch.full((3, 2), 5.0))
    assert found.tensors("ema") == {}
    assert sorted(os.listdir(found.folder)) == ["checkpoint.json", "optimizer.safetensors", "weights.safetensors"]


def test_weights_that_leave_a_run_are_the_running_means(tmp_path, meta):
    save(tmp_path, meta(5), tensors(5) | {"ema": {"adapter.a": torch.zeros(3, 2)}})
    assert find(str(tmp_path)).weights()["adapter.a"].sum() == 0
    assert find(str(tmp_path)).weights(mean=False)["adapter.a"].sum() == 30


def test_channels_last_weights_are_saved_as_they_count(tmp_path, meta):
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save(tmp_path, meta(1), {"weights": {"unet.conv": weight}})
    assert torch.equal(find(str(tmp_path)).weights()["unet.conv"], weight)


def test_the_latest_valid_one_counts_and_damage_is_named(tmp_path, meta):
    for step in (5, 10, 15):
        save(tmp_path, meta(step), tensors(step))
    (folders(tmp_path)[2] / "checkpoint.json").unlink()
    path = folders(tmp_path)[1] / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found, problems = latest(tmp_path)
    assert found.meta.step == 5
    assert "step-00000015: no checkpoint here" in problems[0]
    assert "step-00000010/optimizer.safetensors: damaged" in problems[1]
    with pytest.raises(InputError, match=r"optimizer\.safetensors: damaged"):
        open_checkpoint(path.parent)


def test_when_all_are_damaged_nothing_begins_again_silently(tmp_path, meta):
    folder = save(tmp_path, meta(5), tensors(5))
    (folder / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"no checkpoint can be read: .*weights\.safetensors: is missing"):
        latest(tmp_path)


def test_only_the_last_are_kept(tmp_path, meta):
    for step in range(1, 6):
        save(tmp_path, meta(step), tensors(step))
        prune(tmp_path, 2)
    assert [folder.name for folder in folders(tmp_path)] == ["step-00000004", "step-00000005"]
    assert len(os.listdir(tmp_path / "checkpoints")) == 2


@pytest.mark.parametrize("document", ["", "{}", '{"step": 1}', "[1]"])
def test_a_foreign_checkpoint_json_is_one_line(tmp_path, document):
    (tmp_path / "checkpoint.json").write_text(document)
    with pytest.raises(InputError, match=r"checkpoint\.json: not a checkpoint of this version") as error:
        find(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match="no checkpoint here"):
        find(str(tmp_path / "nowhere"))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no checkpoint yet"):
        find(str(tmp_path))


def test_a_full_disk_leaves_what_was_there(tmp_path, meta, monkeypatch):
    save(tmp_path, meta(5), tensors(5))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("train.checkpoint._fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        save(tmp_path, meta(10), tensors(10))
    assert error.value.filename.endswith("step-00000010")
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000005"]


_KILLED = """
    import os, shutil, signal, sys
    from pathlib import Path
    import torch
    from train import checkpoint
    from train.checkpoint import Meta, latest, prune, save

    here = Path(sys.argv[1])
    meta = Meta.model_validate_json(Path(sys.argv[2]).read_text())
    calls = 0

    def dies_at(number, function):
        def counted(*arguments, **options):
            global calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return counted

    def write(step):
        tensors = {name: {"a": torch.full((99,), float(step))} for name in ("weights", "optimizer")}
        save(here, meta.model_copy(update={"step": step}), tensors)
        prune(here, 1)

    number, died = 0, True
    while died:
        number += 1
        shutil.rmtree(here, ignore_errors=True)
        write(5)
        child = os.fork()
        if child == 0:
            for module, name in ((os, "fsync"), (os, "mkdir"), (os, "rename"), (os, "rmdir"), (os, "unlink"),
                                 (checkpoint, "save_file"), (checkpoint, "_sha256")):
                setattr(module, name, dies_at(number, getattr(module, name)))
            write(10)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
        found, problems = latest(here)
        assert not problems, problems
        assert found.meta.step in (5, 10)
        assert found.tensors("weights")["a"].eq(found.meta.step).all()
        print(number, found.meta.step, died)
"""


@pytest.mark.slow
def test_killed_at_any_point_of_saving_the_last_one_loads(tmp_path, meta):
    script, about, here = tmp_path / "killed.py", tmp_path / "meta.json", tmp_path / "run"
    script.write_text(textwrap.dedent(_KILLED))
    about.write_text(meta(0).model_dump_json())
    done = subprocess.run([sys.executable, str(script), str(here), str(about)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {step for _, step, _ in rows} == {"5", "10"}
    assert len(rows) > 12
    assert os.listdir(here / "checkpoints") == ["step-00000010"]
