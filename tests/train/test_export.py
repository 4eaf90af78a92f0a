"""Export: the target makes the same of the file, or there is no file; what can't be kept is refused by its setting."""

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from crawl.errors import InputError
from shards.encoders import tiny
from shards.encoders.config import BaseConfig
from shards.encoders.load import frozen
from shards.encoders.text import TextEncoders
from train.__main__ import main
from train.adapters import ip_formats, load_adapter
from train.adapters.ip_adapter import IpAdapter
from train.adapters.published import part, read_weights
from train.base_models import load_base, tiny_unet
from train.checkpoint import Meta, save
from train.config import TrainRun
from train.export.check import check_exportable
from train.export.comfyui import Recognised, recognise
from train.export.files import content
from train.export.metadata import metadata
from train.export.reload import bare_unet, greatest_difference
from train.export.write import check_name, default_name, write
from train.model import build
from train.weights import collect

LORA = {"rank": 4, "alpha": 6}
ABOUT = {"step": 1500, "data": "d1g357", "made_with": {"torch": "2"}}


SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "use_linear_projection": True,
}


def run_file(base=None, **adapter):
    return TrainRun(
        about="about",
        output="/home/somebody/runs/secret-run",
        data={"dataset": "/home/somebody/data/celebs", "size_px": 512},
        base=base or {},
        adapter={"kind": "ip_adapter", **adapter},
        loop={"steps": 2000, "batch_size": 8},
    )


def trained(run, base=None):
    """An adapter on the tiny base, as if trained."""
    adapter = load_adapter(run.adapter, base or load_base(BaseConfig(), clip=True, face=True))
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return adapter


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 0),  # two references side by side
        ({"max_references": 1}, 0),
        ({"scale": 0.7}, 2e-6),
        ({"encoder": "plus"}, 2e-6),
        ({"encoder": "plus", "tokens": 32}, 2e-6),
        ({"encoder": "faceid"}, 0),
        ({"encoder": "faceid", "tokens": 16}, 0),
        ({"encoder": "faceid", "lora": LORA}, 2e-6),
        ({"encoder": "faceid", "tokens": 16, "lora": LORA}, 2e-6),
    ],
)
def test_diffusers_makes_the_same_of_the_file(tmp_path, settings, limit):
    run = run_file(**settings)
    found = write(run, trained(run), ABOUT, "diffusers", str(tmp_path / "a.safetensors")).difference
    assert found <= limit, f"max |difference| {found:.2e}"
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_diffusers_reads_torch_files_too(tmp_path):
    run = run_file(encoder="faceid", lora=LORA)
    found = write(run, trained(run), ABOUT, "diffusers", str(tmp_path / "a.bin")).difference
    assert found <= 2e-6, f"max |difference| {found:.2e}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.bin.json"]
    assert json.loads((tmp_path / "a.bin.json").read_text()) == metadata(run, ABOUT, "diffusers")


@pytest.mark.parametrize("settings", [{}, {"keys": "max", "values": "attention", "per_slot": True, "lora": LORA}])
def test_native_comes_back_whole(tmp_path, settings):
    run = run_file(**settings)
    adapter = trained(run)
    assert write(run, adapter, ABOUT, "native", str(tmp_path / "a.safetensors")).difference == 0
    state = read_weights(str(tmp_path / "a.safetensors"))
    assert state.keys() == adapter.state_dict().keys()


@pytest.mark.parametrize("format", ["native", "diffusers"])
def test_a_file_that_comes_back_different_is_not_written(tmp_path, monkeypatch, format):
    run = run_file()
    adapter = trained(run)
    state = adapter.export(format)
    key = next(key for key in state if key.endswith(("to_k_ip.weight", "to_k.weight")))
    monkeypatch.setattr(adapter, "export", lambda format: state | {key: state[key] * 1.01})
    with pytest.raises(InputError, match=r"a\.safetensors: not written.*differs by \d"):
        write(run, adapter, ABOUT, format, str(tmp_path / "a.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_back_is_named_and_not_written(tmp_path, monkeypatch):
    run = run_file(base={"family": "sd15", "weights": "a/b"})
    adapter = trained(run, narrow("sd15"))
    state = adapter.export("comfyui")
    monkeypatch.setattr(adapter, "export", lambda format: {k: v for k, v in state.items() if ".15." not in k})
    with pytest.raises(InputError, match=r"a\.safetensors: ip_adapter\.15\.to_k_ip\.weight: is missing") as error:
        write(run, adapter, ABOUT, "comfyui", str(tmp_path / "a.safetensors"))
    assert str(error.value).startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "format", "message"),
    [
        ({"tokens": 8}, "diffusers", "adapter.tokens: 8"),
        ({"tokens": 16}, "diffusers", "adapter.tokens: 16"),
        ({"encoder": "plus", "depth": 2}, "diffusers", "adapter.depth: 2"),
        ({"encoder": "plus", "depth": 6}, "comfyui", "adapter.depth: 6"),
        ({"encoder": "faceid", "tokens": 8}, "diffusers", "adapter.tokens: 8"),
        ({"keys": "mean"}, "diffusers", "adapter.keys: mean"),
        ({"values": "attention"}, "comfyui", "adapter.values: attention"),
        ({"per_slot": True}, "diffusers", "adapter.per_slot: true"),
        ({"dropped": "absent"}, "diffusers", "adapter.dropped: absent"),
        ({"encoder": "plus", "tokens": 32}, "comfyui", "adapter.tokens: 32.*plus for 16"),
        ({"encoder": "faceid", "tokens": 16, "lora": LORA}, "comfyui", "adapter.tokens: 16.*with LoRA for 4"),
        ({"encoder": "faceid"}, "comfyui", "adapter.tokens: 4.*without LoRA for 16"),
        ({"lora": LORA}, "comfyui", "adapter.lora: "),
        ({}, "photomaker", "adapter.kind: ip_adapter"),
        ({}, "comfyui", "base.family: tiny"),
    ],
)
def test_settings_that_a_format_cannot_hold_are_refused_before_training(settings, format, message):
    run = run_file(**settings).model_copy(update={"export": format})
    with pytest.raises(InputError, match=f"export: {format}: {message}"):
        check_exportable(run)
    if "base" not in message:
        assert format not in IpAdapter.formats(run.adapter)
    check_exportable(run, "native")


def test_comfyui_knows_insightface_alone():
    sd15 = {"family": "sd15", "weights": "a/b"}
    faceid = {"encoder": "faceid", "tokens": 16}
    with pytest.raises(InputError, match=r"base\.face: embedded"):
        check_exportable(run_file(sd15, **faceid), "comfyui")
    check_exportable(run_file(sd15 | {"face": "insightface", "accept_licence": "x"}, **faceid), "comfyui")


@pytest.mark.parametrize("settings", [{"tokens": 8}, {"encoder": "plus", "depth": 2}, {"encoder": "plus", "depth": 6}])
def test_diffusers_does_fail_at_what_is_refused(settings):
    """Else the refusal would be a guess."""
    state = ip_formats.published(trained(run_file(**settings)))
    nested = {name: part(state, f"{name}.") for name in ("image_proj", "ip_adapter")}
    with pytest.raises((RuntimeError, ValueError), match=r"size mismatch|expected shape|Unexpected key|layers\.\d"):
        tiny_unet(0)._load_ip_adapter_weights([nested], low_cpu_mem_usage=False)


def narrow(family):
    """SD1.5's or SDXL's layers and context width, with few channels."""
    base = load_base(BaseConfig(), clip=True)
    torch.manual_seed(0)
    tokens = tiny.tokenizer()
    if family == "sd15":
        shape = {"block_out_channels": (8, 16, 16, 16), "attention_head_dim": 2, "cross_attention_dim": 768}
        base.text = TextEncoders([tokens], [text_encoder(CLIPTextModel, tokens, 768)], penultimate=False)
    else:
        shape = SDXL | {"block_out_channels": (8, 16, 32), "attention_head_dim": (1, 2, 4)}
        shape |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 32}
        models = [text_encoder(kind, tokens, 1024) for kind in (CLIPTextModel, CLIPTextModelWithProjection)]
        base.text = TextEncoders([tokens, tokens], models, penultimate=True)
    base.unet = UNet2DConditionModel(norm_num_groups=8, **shape)
    frozen(base.text), frozen(base.unet)
    base.face = SimpleNamespace(width=512)
    return base


def text_encoder(kind, tokens, width):
    special = {f"{name}_token_id": getattr(tokens, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    small = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 32}
    return kind(CLIPTextConfig(vocab_size=len(tokens), hidden_size=width, **small, **special))


@pytest.mark.parametrize(
    ("family", "settings", "taken_for"),
    [
        ("sd15", {}, "base with 4 tokens on SD1.5"),
        ("sd15", {"encoder": "plus"}, "plus with 16 tokens on SD1.5"),
        ("sdxl", {"encoder": "faceid", "lora": LORA}, "faceid with 4 tokens on SDXL"),
    ],
)
@pytest.mark.slow
def test_real_layer_counts_come_back_in_diffusers_and_by_comfyuis_rules(tmp_path, family, settings, taken_for):
    real = {"family": family, "weights": "a/b", "face": "insightface", "accept_licence": "x"}
    run = run_file(base=real, **settings)
    adapter = trained(run, narrow(family))
    written = write(run, adapter, ABOUT, "comfyui", str(tmp_path / "a.safetensors"))
    assert written.taken_for == taken_for
    assert written.difference <= 2e-6, f"max |difference| {written.difference:.2e}"
    found = greatest_difference(adapter, written.path, "diffusers")
    assert found <= 2e-6, f"max |difference| {found:.2e}"


def test_comfyui_rules_at_sdxl_size():
    """Shapes as published: sdxl base and plus, faceid with LoRA, portrait; and what is wrong is named."""

    def state(image_proj, lora=False):
        layers = {f"{i}.to_{side}_ip.weight": (1280, 2048) for i in range(1, 140, 2) for side in "kv"}
        layers |= {"0.to_q_lora.down.weight": (128, 640)} if lora else {}
        shapes = {f"image_proj.{k}": v for k, v in image_proj.items()} | {
            f"ip_adapter.{k}": v for k, v in layers.items()
        }
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}

    base = {"proj.weight": (8192, 1280), "norm.weight": (2048,)}
    plus = {"latents": (1, 16, 1280), "proj_in.weight": (1280, 1280), "proj_out.weight": (2048, 1280)}
    plus |= {f"layers.{i}.0.to_q.weight": (1280, 1280) for i in range(4)}
    faceid = {"proj.0.weight": (1024, 512), "proj.2.weight": (8192, 1024), "norm.weight": (2048,)}
    portrait = faceid | {"proj.2.weight": (32768, 1024)}
    assert recognise(state(base), "a") == Recognised("SDXL", "base", 4)
    assert recognise(state(plus), "a") == Recognised("SDXL", "plus", 16)
    assert recognise(state(faceid, lora=True), "a") == Recognised("SDXL", "faceid", 4)
    assert recognise(state(portrait), "a") == Recognised("SDXL", "portrait", 16)
    for faulty, message in (
        (state(faceid), r"image_proj\.proj\.2\.weight: shape \[8192, 1024\], ComfyUI builds \[32768, 1024\]"),
        (state(base | {"proj.weight": (16384, 1280)}), r"image_proj\.proj\.weight"),
        (state({k: v for k, v in plus.items() if "layers.3" not in k}), r"layers\.3\.0\.to_q\.weight: is missing"),
        ({k: v for k, v in state(base).items() if ".139." not in k}, r"ip_adapter\.139\.to_k_ip\.weight: is missing"),
        ({"ip_adapter.1.to_k_ip.weight": torch.empty(9, 64)}, "no base of context width 64"),
    ):
        with pytest.raises(InputError, match=message):
            recognise(faulty, "a")


def test_the_header_tells_how_it_was_trained_and_nothing_of_the_machine(tmp_path):
    settings = {"encoder": "faceid", "lora": LORA, "weights": "/home/somebody/ip.bin"}
    run = run_file(**settings).model_copy(update={"init_from": "/home/somebody/run"})
    (tmp_path / "a.safetensors").write_bytes(
        content(".safetensors", {"a": torch.ones(1)}, metadata(run, ABOUT, "diffusers"))
    )
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        says = file.metadata()
    assert says["personae.steps"] == says["ss_steps"] == "1500"
    assert says["personae.data"] == "d1g357"
    assert says["ss_network_dim"] == "4"
    assert float(says["ss_network_alpha"]) == 4  # alpha 6 is in the weights
    assert len(says["sshs_model_hash"]) == 64
    config = json.loads(says["personae.config"])
    assert config["adapter"]["encoder"] == "faceid"
    assert config["data"]["dataset"] == "celebs"
    assert "somebody" not in json.dumps(says)


def test_the_same_weights_written_again_are_the_same_bytes(tmp_path):
    run = run_file()
    for seed, name in ((1, "a.safetensors"), (2, "b.safetensors")):
        torch.manual_seed(seed)
        write(run, trained(run), ABOUT, "diffusers", str(tmp_path / name))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_order_of_metadata_does_not_show():
    tensors = {"b": torch.ones(3, dtype=torch.float16), "a.x": torch.arange(5.0)}
    says = {f"key{i}": str(i) for i in range(30)}
    shuffled = dict(reversed(says.items()))
    assert content(".safetensors", tensors, says) == content(".safetensors", tensors, shuffled)


@pytest.mark.parametrize(("out", "format"), [("a.pt", "diffusers"), ("a", "photomaker"), ("a.bin", "native")])
def test_a_name_that_says_no_format_is_refused(out, format):
    with pytest.raises(InputError, match=f"--out: {out}"):
        check_name(out, format)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a run whose UNet is trained too, and whose means are kept."""
    folder = tmp_path_factory.mktemp("run")
    run = run_file(tokens=4)
    run = run.model_copy(update={"loop": run.loop.model_copy(update={"train_unet": True})})
    base, adapter = build(run)
    base.unet.conv_in.weight.data += 0.1
    for parameter in adapter.parameters():
        parameter.data += 0.1
    meta = Meta(step=7, run=run, data="d1g357", made_with={"torch": "2"})
    return save(folder, meta, {"weights": collect(base, adapter, frozenset({"unet"}))}).parents[1]


def test_the_command_writes_what_it_loaded_back(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint), "--to", "diffusers"]) == 0
    shown = capsys.readouterr().out
    assert "weights after 7 steps" in shown
    assert "loaded back by diffusers" in shown
    assert "0.0e+00" in shown
    written = checkpoint / "export" / "ip_adapter-diffusers.safetensors"
    assert written.is_file()
    assert (
        main(["export", str(checkpoint / "checkpoints" / "step-00000007"), "--out", str(tmp_path / "n.safetensors")])
        == 0
    )
    assert "loaded back by Personae" in capsys.readouterr().out
    assert (tmp_path / "n.safetensors").is_file()


def test_the_command_refuses_before_any_model_loads(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("train.model.build", lambda *given, **named: pytest.fail("a model was loaded"))
    source = str(checkpoint)
    for words, message in (
        ([source, "--to", "photomaker"], "adapter.kind"),
        ([source, "--to", "comfyui"], "base.family"),
        ([source, "--to", "native", "--out", "a.bin"], "--out: a.bin"),
        ([str(tmp_path), "--to", "native"], str(tmp_path)),
    ):
        with pytest.raises(InputError, match=message):
            main(["export", *words])


def test_default_names():
    assert default_name("ip_adapter", "diffusers") == "ip_adapter-diffusers.safetensors"
    assert default_name("photomaker", "photomaker") == "photomaker-photomaker.bin"


def test_the_bare_unet_is_the_base_again():
    run = run_file(lora=LORA)
    adapter = trained(run)
    bare, plain = bare_unet(adapter.base, adapter).state_dict(), tiny_unet(0).state_dict()
    assert bare.keys() == plain.keys()
    assert all(torch.equal(bare[key], plain[key]) for key in plain)
