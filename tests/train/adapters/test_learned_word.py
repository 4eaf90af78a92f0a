"""Textual Inversion's published files: diffusers' own pipelines read a prompt with the new word as the trainer does."""

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from crawl.errors import InputError
from shards.encoders import tiny
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.base_models import load_base, tiny_unet
from train.config import TrainRun
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.export.check import check_exportable
from train.export.write import write
from train.restore import restore

ABOUT = {"step": 7, "data": "d1g357", "made_with": {}}
PROMPT = "a photo of a {} in a red dress, outdoors"
PIPELINES = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small pipeline of each family as the hub has it: configurations of its text encoders name end token 2."""
    made = {family: tmp_path_factory.mktemp(family) for family in PIPELINES}
    base, tokens = load_base(BaseConfig()), tiny.tokenizer()
    texts = [saved_text(kind, tokens, seed) for seed, kind in enumerate((CLIPTextModel, CLIPTextModelWithProjection))]
    schedule = type(base.schedule).from_config(base.schedule.config, steps_offset=1)
    parts = {"vae": base.vae.model, "scheduler": schedule, "tokenizer": tokens, "text_encoder": texts[0]}
    torch.manual_seed(0)
    narrow = {key: tiny_unet(0).config[key] for key in ("block_out_channels", "down_block_types", "up_block_types")}
    narrow |= {"norm_num_groups": 8, "attention_head_dim": 4, "cross_attention_dim": tiny.TEXT_WIDTH}
    unchecked = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    sd15 = StableDiffusionPipeline(unet=UNet2DConditionModel(**narrow), **parts, **unchecked)
    sd15.save_pretrained(made["sd15"])
    second = {"tokenizer_2": tokens, "text_encoder_2": texts[1]}
    StableDiffusionXLPipeline(unet=tiny_unet(0), **parts, **second).save_pretrained(made["sdxl"])
    return made


def saved_text(kind, tokens, seed):
    torch.manual_seed(seed)
    small = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 32}
    return kind(CLIPTextConfig(vocab_size=len(tokens), hidden_size=tiny.TEXT_WIDTH, eos_token_id=2, **small))


def run_file(base=None, export="diffusers", **adapter):
    return TrainRun.model_validate(
        {
            "output": "out/none", "data": {"dataset": "none", "size_px": 32, "identities": ["k"]}, "export": export,
            "base": base or {}, "adapter": {"kind": "textual_inversion", **adapter},
            "loop": {"steps": 1, "batch_size": 1},
        }
    )  # fmt: skip


def trained(run):
    adapter = load_adapter(run.adapter, load_base(run.base)).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    return adapter


def read_by(adapter):
    """What the trainer makes of `PROMPT` with a woman in it."""
    prompt = PROMPT.format("woman")
    batch = Synthetic(adapter.base, type(adapter).needs(adapter.settings), Draws(0), 32).held_out(1)
    prompts = SimpleNamespace(general=[prompt], trigger_position=[prompt.index("woman") + len("woman")])
    return adapter.conditions(batch.replace(prompts=prompts))


@torch.no_grad()
@pytest.mark.parametrize("vectors", [1, 3, 12])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_sd15s_file_is_the_word_alone_and_loads_in_one_call(folders, tmp_path, vectors, suffix):
    run = run_file({"family": "sd15", "weights": str(folders["sd15"])}, vectors=vectors, placeholder_token="<ada>")
    adapter, out = trained(run), f"{tmp_path}/learned_embeds{suffix}"
    assert write(run, adapter, ABOUT, "diffusers", out).difference <= 2e-6
    state = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    assert {key: tuple(value.shape) for key, value in state.items()} == {"<ada>": (vectors, tiny.TEXT_WIDTH)}
    pipeline = StableDiffusionPipeline.from_pretrained(folders["sd15"], safety_checker=None)
    pipeline.load_textual_inversion(str(tmp_path))  # a folder: the file has the name that the loader looks for
    text, _ = pipeline.encode_prompt(PROMPT.format("<ada>"), "cpu", 1, False)
    assert torch.allclose(text, read_by(adapter).text, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("vectors", [1, 3])
def test_sdxls_file_holds_a_tensor_for_each_encoder(folders, tmp_path, vectors):
    run = run_file({"family": "sdxl", "weights": str(folders["sdxl"])}, vectors=vectors)
    adapter, out = trained(run), str(tmp_path / "word.safetensors")
    assert write(run, adapter, ABOUT, "diffusers", out).difference <= 2e-6
    state = load_file(out)
    assert {key: len(value) for key, value in state.items()} == {"clip_l": vectors, "clip_g": vectors}
    pipe = StableDiffusionXLPipeline.from_pretrained(folders["sdxl"])
    first, second = ({"text_encoder": pipe.text_encoder, "tokenizer": pipe.tokenizer},
                     {"text_encoder": pipe.text_encoder_2, "tokenizer": pipe.tokenizer_2})  # fmt: skip
    pipe.load_textual_inversion(state["clip_l"], token="<person>", **first)
    pipe.load_textual_inversion(state["clip_g"], token="<person>", **second)
    expected = read_by(adapter)
    for end, same in ((None, False), (pipe.tokenizer_2.eos_token_id, True)):  # the line that the docs ask for
        if end is not None:
            pipe.text_encoder_2.text_model.eos_token_id = end
        text, _, pooled, _ = pipe.encode_prompt(PROMPT.format("<person>"), None, "cpu", 1, False)
        assert torch.allclose(text, expected.text, atol=2e-6)
        assert torch.allclose(pooled, expected.pooled, atol=2e-6) == same


def test_the_check_leaves_the_base_as_it_was(folders, tmp_path):
    run = run_file({"family": "sdxl", "weights": str(folders["sdxl"])})
    adapter = trained(run)
    text = adapter.base.text
    before = {key: value.clone() for key, value in text.state_dict().items()}
    words = [len(tokenizer) for tokenizer in text.tokenizers]
    write(run, adapter, ABOUT, "diffusers", str(tmp_path / "a.safetensors"))
    after = text.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [len(tokenizer) for tokenizer in text.tokenizers] == words
    assert text.models[1].text_model.eos_token_id == 2


def test_a_file_that_comes_back_different_is_not_written(tmp_path, monkeypatch):
    run = run_file()
    adapter = trained(run)
    state = adapter.export("diffusers")
    monkeypatch.setattr(adapter, "export", lambda format: state | {"clip_g": state["clip_g"] * 1.1})
    with pytest.raises(InputError, match=r"a\.safetensors: not written.*differs by \d"):
        write(run, adapter, ABOUT, "diffusers", str(tmp_path / "a.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_its_header_names_the_word_and_the_trainer_reads_it_again(tmp_path):
    run = run_file(vectors=2, placeholder_token="<ada>")
    adapter, out = trained(run), str(tmp_path / "word.safetensors")
    write(run, adapter, ABOUT, "diffusers", out)
    with safe_open(out, "pt") as file:
        says = file.metadata()
    assert says["modelspec.trigger_phrase"] == "<ada>"
    assert json.loads(says["personae.config"])["adapter"]["vectors"] == 2
    _, _, again = restore(out)
    assert again.state_dict().keys() == adapter.state_dict().keys()
    assert all(torch.equal(again.state_dict()[key], value) for key, value in adapter.state_dict().items())


def test_single_tensors_begin_sd15_whatever_their_name(folders, tmp_path):
    """kohya's is `emb_params`; a word of one vector may be flat."""
    adapter = trained(run_file({"family": "sd15", "weights": str(folders["sd15"])}))
    path, vector = str(tmp_path / "a.safetensors"), torch.arange(float(tiny.TEXT_WIDTH))
    for held in ({"emb_params": vector[None]}, {"<cat>": vector}):
        save_file(held, path)
        adapter.load_weights(path)
        assert torch.equal(adapter.words["embedding"].data, vector[None])
    save_file({"emb_params": torch.zeros(3, tiny.TEXT_WIDTH)}, path)
    with pytest.raises(InputError, match=r"a\.safetensors: holds 3 vectors: set adapter\.vectors: 3"):
        adapter.load_weights(path)
    save_file({"clip_l": torch.zeros(1, 9), "clip_g": torch.zeros(1, 9)}, path)
    with pytest.raises(InputError, match=r"a\.safetensors: clip_g: is unknown here"):
        adapter.load_weights(path)


def test_other_forms_are_refused_and_so_is_a_word_that_there_is():
    with pytest.raises(InputError, match=r"export: comfyui: .* ComfyUI reads the file of `diffusers`"):
        check_exportable(run_file(export="comfyui"))
    with pytest.raises(InputError, match=r"export: photomaker: adapter\.kind: textual_inversion has no such form"):
        check_exportable(run_file(export="photomaker"))
    check_exportable(run_file())
    with pytest.raises(InputError, match=r"adapter\.placeholder_token: 'a': the tokenizer has this word"):
        trained(run_file(placeholder_token="a"))
    for token in ("two words", "a.b", ""):
        with pytest.raises(ValueError, match="placeholder_token"):
            run_file(placeholder_token=token)
