"""Commands and their bad inputs: one line that names the field, before any model loads."""

import subprocess
import sys

import pytest

from crawl.errors import exit_with_one_line
from train import registry
from train.__main__ import main

FILE = """
output: {folder}/run
data: {{dataset: {folder}/shards}}
adapter: {{kind: ip_adapter}}
loop: {{steps: 2, batch_size: 4}}
"""


@pytest.fixture
def run_file(tmp_path, monkeypatch):
    """A good run file but for its dataset; models that load are an error."""

    def never(*arguments, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("train.model.load_base", never)
    path = tmp_path / "run.yaml"
    path.write_text(FILE.format(folder=tmp_path))
    return str(path)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["loop.step=3"], "loop.step: unknown key (did you mean steps?)"),
        (["loops.steps=3"], "loops: unknown key (did you mean loop?)"),
        (["loop.steps=0"], "loop.steps: Input should be greater than or equal to 1 (got 0)"),
        (["loop.precision=fp16"], "loop.precision: Input should be 'fp32' or 'bf16' (got 'fp16')"),
        (["adapter.kind=lora"], "adapter: Input tag 'lora' found using 'kind' does not match"),
        (["adapter.token=3"], "adapter.token: unknown key (did you mean tokens?)"),
        (["data.references=[3,2]"], "data: references: 1 ≤ least ≤ most ≤ 16"),
        (["data.drop.text=0.95"], "data.drop: text + identity + both exceed 1"),
        (["base.family=sdxl"], "base: weights: name the pipeline's folder or hub name"),
        (["optim.lr=-1"], "optim.lr: Input should be greater than 0 (got -1)"),
        (["loop.micro_batch=8"], "loop.micro_batch: 8 is more than loop.batch_size (4)"),
        (["data.references=[1,6]"], "data.references: up to 6, but adapter.max_references is 4"),
        (["adapter={kind: none}"], "loop.train_unet: adapter none has nothing to train"),
        (["base={family: sdxl, weights: ./nowhere, clip: x}"], "base.weights: ./nowhere: no such folder"),
        (["base={family: sdxl, weights: hub/name}"], "base.clip: ip_adapter looks at reference photos"),
        (["base.face=insightface", "adapter.encoder=faceid"], "base.accept_licence: face embeddings of insightface"),
        (["base={family: sd15, weights: hub/name, clip: x}", "loop.fit_vae_steps=9"], "loop.fit_vae_steps: the VAE of"),
        (["loop.fit_vae_steps=9", "data.features=cached"], "data.features: cached latents are not those of the VAE"),
        (["loss.zero_terminal_snr=true"], "loss.zero_terminal_snr: tiny predicts noise"),
        (["loop.wandb_project=mine"], "loop.wandb_project: `wandb` is not installed"),
        (["export=photomaker"], "export: photomaker: "),
        (["export=diffusers", "adapter.tokens=8"], "export: diffusers: "),
        (["adapter.weights=no.bin"], "adapter.weights: no.bin: no such file"),
        (["init_from=nowhere"], "init_from: nowhere: no such folder"),
        (["output=s3://bucket/run"], "output: s3://bucket/run: a training run writes to a folder"),
        ([], "shards: no dataset here (shards/index.json is missing)"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_field_before_any_model(run_file, capsys, overrides, named):
    assert exit_with_one_line(lambda: main([run_file, *overrides])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert named in error
    assert error.count("\n") == 1


def test_commands_have_help_and_wrong_words_are_refused(capsys):
    for words in (["--help"], ["bench", "--help"], ["export", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
    assert "also:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert "name a run file" in capsys.readouterr().err


def test_a_run_file_is_checked_without_torch(run_file):
    """So that --list and a typo answer at once."""
    code = (
        "import sys, train.registry as r\n"
        f"r.load({run_file!r}, [])\n"
        "assert r.experiments()\n"
        "heavy = [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_file_is_read_with_its_overrides(run_file):
    run = registry.load(run_file, ["optim.lr=3e-5", "adapter.encoder=plus"])
    assert (run.optim.lr, run.adapter.encoder, run.loop.batch_size) == (3e-5, "plus", 4)
