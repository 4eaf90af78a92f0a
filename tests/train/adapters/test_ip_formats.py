"""Published IP-Adapter weights in: whatever the file, the adapter becomes it or one line says why not."""

import pytest
import torch
from safetensors.torch import save_file

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.ip_formats import published
from train.adapters.settings import IpAdapterSettings
from train.base_models import load_base

LORA = {"rank": 2, "alpha": 4}


def made(seed, **settings):
    base = load_base(BaseConfig(), clip=True, face=True)
    adapter = load_adapter(IpAdapterSettings(seed=seed, **settings), base)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    return adapter


def nested(state):
    parts = {"image_proj": {}, "ip_adapter": {}}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        parts[first][rest] = value
    return parts


def raw(state):
    """As IP-Adapter's training script saves: other names, and the whole UNet beside."""
    renamed = {
        key.replace("image_proj.", "image_proj_model.").replace("ip_adapter.", "adapter_modules."): value
        for key, value in state.items()
    }
    return renamed | {"unet.conv_in.weight": torch.zeros(4, 4)}


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    difference = max(float((mine[key] - theirs[key]).abs().max()) for key in mine)
    assert difference < 1e-6, f"max |difference| {difference:.2e}"


@pytest.mark.parametrize(
    "settings",
    [{"encoder": "plus"}, {"encoder": "faceid", "lora": LORA}, {"encoder": "faceid", "tokens": 16}, {"scale": 0.5}],
)
def test_what_went_out_comes_in_again(tmp_path, settings):
    one, other = made(1, **settings), made(2, **settings)
    save_file(published(one), tmp_path / "a.safetensors")
    other.load_weights(str(tmp_path / "a.safetensors"))
    same(one, other)


def test_torch_files_and_raw_checkpoints_come_in_too(tmp_path):
    one, other = made(1), made(2)
    torch.save(nested(published(one)), tmp_path / "a.bin")
    torch.save(raw(published(one)), tmp_path / "raw.bin")
    for name in ("a.bin", "raw.bin"):
        for parameter in other.parameters():
            parameter.data.zero_()
        other.load_weights(str(tmp_path / name))
        same(one, other)


def test_keys_are_the_published_ones():
    base = published(made(1))
    layers = [f"ip_adapter.{i}.to_{side}_ip.weight" for i in range(1, 24, 2) for side in "kv"]
    names = [f"image_proj.{name}" for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")]
    assert list(base) == names + layers
    plus = {key.removeprefix("image_proj.") for key in published(made(1, encoder="plus")) if "image_proj" in key}
    inside = (
        "norm1.weight",
        "norm1.bias",
        "norm2.weight",
        "norm2.bias",
        "to_q.weight",
        "to_kv.weight",
        "to_out.weight",
    )
    feed = ("0.weight", "0.bias", "1.weight", "3.weight")
    ends = {f"{name}.{kind}" for name in ("proj_in", "proj_out", "norm_out") for kind in ("weight", "bias")}
    assert plus == {"latents"} | ends | {
        f"layers.{i}.{part}" for i in range(4) for part in (*(f"0.{n}" for n in inside), *(f"1.{n}" for n in feed))
    }
    faceid = published(made(1, encoder="faceid", lora=LORA))
    assert {key for key in faceid if "lora" in key} == {
        f"ip_adapter.{i}.to_{p}_lora.{side}.weight" for i in range(24) for p in ("q", "k", "v", "out")
        for side in ("down", "up")
    }  # fmt: skip


def test_slots_all_begin_from_the_one_matrix_of_the_file(tmp_path):
    state = published(made(1))
    save_file(state, tmp_path / "a.safetensors")
    slots = made(2, per_slot=True, max_references=3)
    slots.load_weights(str(tmp_path / "a.safetensors"))
    for index, layer in slots.ip_adapter.items():
        expected = state[f"ip_adapter.{index}.to_k_ip.weight"]
        assert torch.equal(layer.to_k.weight, expected.expand(3, -1, -1))


def test_new_lora_may_begin_beside_published_weights(tmp_path):
    save_file(published(made(1, encoder="faceid")), tmp_path / "a.safetensors")
    adapter = made(2, encoder="faceid", lora=LORA)
    before = adapter.lora.state
    adapter.load_weights(str(tmp_path / "a.safetensors"))
    assert all(torch.equal(adapter.lora.state[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("of", "into", "message"),
    [
        ({"tokens": 8}, {}, r"image_proj\.proj\.bias: shape \[512\], expected \[256\]"),
        ({"encoder": "plus"}, {}, r"image_proj\.latents: is unknown here"),
        ({"encoder": "plus", "depth": 5}, {"encoder": "plus"}, r"image_proj\.layers\.4\..*: is unknown here"),
        ({"encoder": "faceid", "lora": LORA}, {"encoder": "faceid"}, r"holds LoRA: set adapter\.lora\.rank: 2"),
        ({"encoder": "faceid", "lora": LORA}, {"encoder": "faceid", "lora": {"rank": 3}}, r"lora.*shape \[2, 64\]"),
    ],
)
def test_weights_of_another_kind_are_named(tmp_path, of, into, message):
    save_file(published(made(1, **of)), tmp_path / "ip.safetensors")
    with pytest.raises(InputError, match=rf"ip\.safetensors: .*{message}"):
        made(2, **into).load_weights(str(tmp_path / "ip.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ip_adapter.3.to_k_ip.weight": None}, r"ip_adapter\.3\.to_k_ip\.weight: is missing"),
        ({"ip_adapter.3.to_k_ip.weight": torch.zeros(64, 2048)}, r"ip_adapter\.3\.to_k_ip\.weight: shape \[64, 2048\]"),
        ({"ip_adapter.25.to_k_ip.weight": torch.zeros(64, 64)}, r"ip_adapter\.25\.to_k_ip\.weight: is unknown here"),
        ({"image_proj.norm.bias": None}, r"image_proj\.norm\.bias: is missing"),
        ({"id_encoder.fuse": torch.zeros(1)}, r"id_encoder\.fuse: is unknown here"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, message):
    state = {key: value for key, value in (published(made(1)) | change).items() if value is not None}
    save_file(state, tmp_path / "ip.safetensors")
    with pytest.raises(InputError, match=rf"ip\.safetensors: .*{message}"):
        made(2).load_weights(str(tmp_path / "ip.safetensors"))
