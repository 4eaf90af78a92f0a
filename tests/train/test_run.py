"""A run from its first step to its last: files, resuming, stopping, refusing."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from PIL import Image

from crawl.errors import InputError
from train.checkpoint import find, folders, load_run, save
from train.data.synthetic import Synthetic
from train.log import read_metrics
from train.run import train

TIMES = {"samples_per_s", "memory_mb", "data_wait"}


def numbers(folder):
    """The log without what depends on the machine."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder)]


def states(folder):
    found = find(str(folder))
    files = {name: found.tensors(name) for name in ("weights", "optimizer", "ema")}  # mapped, hence the clones
    return {f"{name} {key}": value.clone() for name, file in files.items() for key, value in file.items()}


def assert_same(folder, other):
    assert numbers(folder) == numbers(other)
    first, second = states(folder), states(other)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


@pytest.fixture
def run_of_ten(tiny_run):
    """Every option that keeps a state; log lines every 3 steps, so that a checkpoint falls between two."""

    def make(output, **loop):
        run = tiny_run(
            loop={"steps": 10, "batch_size": 2, "log_every": 3, "ema": 0.9, "fit_vae_steps": 2, "gauges_every": 5}
            | loop,
            optim={"warmup_steps": 3, "schedule": "cosine", "lr": 1e-3},
            loss={"min_snr_gamma": 5, "noise_offset": 0.05},
            data={"prefetch": 0},  # a step's batch is asked for in that step: `stopping` counts on it
        )
        return run.model_copy(update={"output": str(output)})

    return make


@pytest.fixture
def stopping():
    """A source that sends SIGTERM to this process when a step's batch is asked for."""

    @dataclasses.dataclass(frozen=True, eq=False)
    class Stopping(Synthetic):
        at: int = 4

        def batch(self, step, rows, batch_size):
            if step == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(step, rows, batch_size)

    return Stopping


def test_ten_steps_are_five_and_five_resumed_bitwise(tmp_path, run_of_ten, synthetic, stopping, capsys):
    handler = signal.getsignal(signal.SIGTERM)  # Ray's, where another test has started it in this process
    assert train(run_of_ten(tmp_path / "whole"), synthetic()) == 0
    split = run_of_ten(tmp_path / "split")
    assert train(split, synthetic(stopping)) == 0
    assert "stopped by SIGTERM after step 5: the same command goes on there" in capsys.readouterr().out
    assert find(split.output).meta.step == 5
    assert len(find(split.output).meta.window) == 2
    assert signal.getsignal(signal.SIGTERM) == handler
    assert train(split, synthetic()) == 0
    assert "goes on after step 5 of 10" in capsys.readouterr().out
    assert_same(tmp_path / "whole", tmp_path / "split")
    before = (tmp_path / "split" / "metrics.jsonl").read_bytes()
    assert train(split, synthetic()) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "split" / "metrics.jsonl").read_bytes() == before


def test_lines_of_steps_that_are_run_again_are_taken_out(tmp_path, tiny_run, synthetic):
    run = tiny_run(loop={"steps": 4, "save_every": 1, "log_every": 2})
    train(run, synthetic())
    whole = numbers(tmp_path / "run")
    shutil.rmtree(folders(tmp_path / "run")[-1])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')
    train(run, synthetic())
    assert numbers(tmp_path / "run") == whole


def test_the_log_says_what_it_must(tmp_path, tiny_run, synthetic):
    run = tiny_run(loop={"steps": 2, "gauges_every": 1})
    assert train(run, synthetic()) == 0
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 1, 2, 2]
    assert lines[1].keys() == {
        "step", "loss", "loss/diffusion", "grad_norm", "lr/unet", "samples_per_s", "mfu", "memory_mb", "data_wait"
    }  # fmt: skip
    assert lines[1]["mfu"] is None
    assert lines[1]["samples_per_s"] > 0
    assert 0 <= lines[1]["data_wait"] <= 1
    gauges = {name for line in lines for name in line if name.startswith("gauge/")}
    assert gauges >= {"gauge/collapse", "gauge/swap_gap", "gauge/swap_gap_low", "gauge/swap_gap_general"}
    assert any(name.startswith("events") for name in os.listdir(tmp_path / "run" / "tensorboard"))
    assert os.listdir(tmp_path / "run" / "samples") == ["step-00000002.png"]
    with Image.open(tmp_path / "run" / "samples" / "step-00000002.png") as grid:
        assert grid.size > (300, 300)
    assert "batch_size: 3" in (tmp_path / "run" / "config.resolved.yaml").read_text()


def test_a_loss_that_is_not_finite_ends_with_code_3_and_the_last_checkpoint(
    tmp_path, tiny_run, synthetic, broken, capsys
):
    run = tiny_run(loop={"save_every": 1})
    assert train(run, synthetic(broken)) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: step 3: loss diffusion is nan: samples p")
    assert error.endswith(f"the step was not applied; last checkpoint: {folders(tmp_path / 'run')[-1]}\n")
    assert find(run.output).meta.step == 2
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optim": {"lr": 3e-4}}, r"optim\.lr: is 0\.0003, and was 0\.0001 when the checkpoints in .* were made"),
        ({"loop": {"steps": 1, "batch_size": 2}}, r"loop\.batch_size: is 2, and was 3"),
        ({"loop": {"steps": 1, "seed": 5}}, r"loop\.seed: is 5"),
        ({"base": {"seed": 5}}, r"base\.seed: is 5"),
        ({"data": {"drop": {"text": 0.2}}}, r"data\.drop\.text: is 0\.2"),
        ({"loss": {"noise_offset": 0.1}}, r"loss\.noise_offset: is 0\.1"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(tiny_run, synthetic, finished, changes, line):
    with pytest.raises(InputError, match=line):
        train(finished(**changes), synthetic())


@pytest.fixture(scope="module")
def one_step(tmp_path_factory, run_in, synthetic):
    """A folder in which one step is done."""
    folder = tmp_path_factory.mktemp("one") / "run"
    train(run_in(folder, loop={"steps": 1}), synthetic())
    return folder


@pytest.fixture
def finished(one_step, run_in):
    """Makes run files for that folder."""

    def make(**changes):
        return run_in(one_step, **{"loop": {"steps": 1}, **changes})

    return make


def test_other_data_is_refused(finished, synthetic):
    with pytest.raises(InputError, match=r"data\.dataset: synthetic: not the data of the run"):
        train(finished(loop={"steps": 2}), synthetic(identities=5))


def test_what_changes_no_result_may_change(tmp_path, one_step, run_in, synthetic):
    shutil.copytree(one_step, tmp_path / "run")
    loop = {"steps": 2, "micro_batch": 1, "log_every": 7, "gradient_checkpointing": True}
    run = run_in(tmp_path / "run", loop=loop, samples={"guidance": 2}, about="more")
    assert train(run, synthetic()) == 0
    assert find(run.output).meta.step == 2


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, one_step, run_in, synthetic, capsys):
    shutil.copytree(one_step, tmp_path / "run")
    run = run_in(tmp_path / "run", loop={"steps": 2})
    train(run, synthetic())
    whole = states(tmp_path / "run")
    (folders(tmp_path / "run")[-1] / "weights.safetensors").write_bytes(b"torn")
    capsys.readouterr()
    train(run, synthetic())
    said = capsys.readouterr().out
    assert "weights.safetensors: damaged" in said
    assert "goes on after step 1 of 2" in said
    assert all(torch.equal(value, whole[key]) for key, value in states(tmp_path / "run").items())


def test_a_run_is_loaded_with_all_it_changed(tmp_path, run_of_ten, synthetic):
    run = run_of_ten(tmp_path / "run", steps=1)
    train(run, synthetic())
    loaded, base, _, about = load_run(run.output)
    assert loaded == run
    assert about["step"] == 1
    assert base.vae.model.config.scaling_factor != 1
    kept = find(run.output).weights()
    assert torch.equal(base.unet.conv_in.weight, kept["unet.conv_in.weight"])
    assert torch.equal(base.vae.model.decoder.conv_in.weight, kept["vae.decoder.conv_in.weight"])


def test_a_run_begins_with_the_weights_of_another(tmp_path, run_of_ten, synthetic):
    first = run_of_ten(tmp_path / "first", steps=1)
    train(first, synthetic())
    second = run_of_ten(tmp_path / "second", steps=1, fit_vae_steps=0).model_copy(update={"init_from": first.output})
    second = second.model_copy(update={"optim": second.optim.model_copy(update={"lr": 1e-30})})
    train(second, synthetic())
    before, after = find(first.output).weights(), find(second.output).weights()
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    both = second.model_copy(
        update={"output": str(tmp_path / "third"), "loop": second.loop.model_copy(update={"fit_vae_steps": 1})}
    )
    with pytest.raises(InputError, match=r"loop\.fit_vae_steps: the run of init_from brings its fitted VAE"):
        train(both, synthetic())


def test_a_unet_that_learned_v_is_gone_on_with_as_one(tmp_path, run_in, synthetic):
    def after(name, zero, **loop):
        sections = {"adapter": {"kind": "ip_adapter"}, "loss": {"zero_terminal_snr": zero}}
        return run_in(tmp_path / name, loop={"steps": 1, **loop}, init_from=str(tmp_path / "first"), **sections)

    train(after("first", True).model_copy(update={"init_from": None}), synthetic())
    train(after("second", True, train_unet=False), synthetic())
    _, base, _, _ = load_run(str(tmp_path / "second"))
    assert base.schedule.config.prediction_type == "v_prediction"
    with pytest.raises(
        InputError, match=r"loss\.zero_terminal_snr: false, but the UNet of init_from: .*first was trained with true"
    ):
        train(after("third", False, train_unet=False), synthetic())


def test_weights_of_another_shape_are_named(tmp_path, one_step, run_in, synthetic):
    found = find(str(one_step))
    weights = dict(found.weights())
    weights["unet.conv_in.weight"] = weights["unet.conv_in.weight"][:1]
    save(tmp_path / "other", found.meta, {"weights": weights})
    run = run_in(tmp_path / "new", loop={"steps": 1}, init_from=str(tmp_path / "other"))
    with pytest.raises(
        InputError, match=r"init_from: .*other: conv_in\.weight: shape \[1, 4, 3, 3\], here \[32, 4, 3, 3\]"
    ):
        train(run, synthetic())


def test_out_of_memory_says_which_settings_help(tiny_run, synthetic):
    @dataclasses.dataclass(frozen=True, eq=False)
    class Hungry(Synthetic):
        def batch(self, step, rows, batch_size):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(
        InputError, match=r"out of memory: try loop\.micro_batch=1 \(now 3.*gradient_checkpointing.*bf16.*size_px"
    ):
        train(tiny_run(), synthetic(Hungry))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precision_is_that_of_the_frozen_base_only(tmp_path, tiny_run, synthetic, precision):
    run = tiny_run(loop={"steps": 1, "precision": precision})
    assert train(run, synthetic()) == 0
    assert {value.dtype for key, value in states(tmp_path / "run").items() if " unet." in key} == {torch.float32}


_KILLED = """
    import sys
    from train.config import TrainRun
    from train.data.synthetic import Synthetic
    from train.run import train

    run = TrainRun.model_validate_json(open(sys.argv[1]).read())
    sys.exit(train(run, lambda run, needs, base, draws: Synthetic(base, needs, draws, run.data.size_px)))
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_if_nothing_had_happened(tmp_path, run_of_ten, synthetic):
    run = run_of_ten(tmp_path / "killed", save_every=1)
    script, config = tmp_path / "killed.py", tmp_path / "run.json"
    script.write_text(textwrap.dedent(_KILLED))
    config.write_text(run.model_dump_json())
    process = subprocess.Popen([sys.executable, str(script), str(config)], stdout=subprocess.DEVNULL)
    while not folders(tmp_path / "killed") and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 1 <= find(run.output).meta.step < 10
    train(run, synthetic())
    whole = run_of_ten(tmp_path / "whole", save_every=1)
    train(whole, synthetic())
    assert_same(tmp_path / "whole", tmp_path / "killed")
