"""A distilled UNet from a folder, a file or a LoRA: other weights, the same attention modules, nothing else trained."""

import pytest
import torch
from safetensors.torch import save_file

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters.adapter import Conditions, Stream
from train.adapters.attention import install_streams
from train.adapters.none import NoAdapter
from train.adapters.settings import NoAdapterSettings
from train.base_models import load_base, tiny_unet
from train.distilled import distilled
from train.step import denoise


@pytest.fixture
def base():
    return load_base(BaseConfig())


def installed(base):
    """An adapter that owns an identity attention."""
    adapter = NoAdapter(NoAdapterSettings(), base)
    adapter.layers = torch.nn.ModuleList(install_streams(base, ["identity"]).values())
    return adapter


@torch.no_grad()
def output(base, unet, scale=1.0):
    states = base.text.encode(["a photo of a woman"])
    generator = torch.Generator().manual_seed(0)
    tokens, latents = torch.randn(1, 3, 64, generator=generator), torch.randn(1, 4, 8, 8, generator=generator)
    streams = {"identity": Stream(tokens, scale=scale)} if scale else {}
    conditions = Conditions(states.hidden, states.pooled, torch.zeros(1, 6), streams)
    return denoise(base, latents, torch.tensor([499]), conditions, unet)


@pytest.mark.parametrize("form", ["unet folder", "pipeline folder", "file"])
def test_a_unet_of_its_own_with_the_adapters_attention(base, tmp_path, form):
    other = tiny_unet(5)
    adapter, expected = installed(base), None
    expected = output(base, _with_attention(other, base))
    path = tmp_path / ("pipeline/unet" if form == "pipeline folder" else "unet")
    if form == "file":
        path = tmp_path / "unet.safetensors"
        save_file(tiny_unet(5).state_dict(), path)
    else:
        tiny_unet(5).save_pretrained(path)
    unet = distilled(str(path.parent if form == "pipeline folder" else path), base, adapter)
    assert torch.equal(output(base, unet), expected)
    assert not torch.equal(expected, output(base, base.unet))
    assert not torch.equal(output(base, unet), output(base, unet, scale=0))
    own = {id(p) for p in adapter.parameters()}
    assert all(p.requires_grad == (id(p) in own) for p in unet.parameters())
    assert own == {id(p) for p in unet.parameters()} & {id(p) for p in base.unet.parameters()}
    adapter.layers[0].streams["identity"].to_v.weight.data += 1
    assert not torch.equal(output(base, unet), expected)


def _with_attention(unet, base):
    unet.set_attn_processor(dict(base.unet.attn_processors))
    return unet


def test_a_lora_is_fused_into_a_copy(base, tmp_path):
    adapter, generator = installed(base), torch.Generator().manual_seed(3)
    before, lora, expected = base.unet.state_dict(), {}, tiny_unet(0)
    for name, module in expected.named_modules():
        if name.endswith(("to_q", "to_v")):
            down, up = (
                0.2 * torch.randn(s, generator=generator) for s in ((2, module.in_features), (module.out_features, 2))
            )
            lora |= {f"unet.{name}.lora.down.weight": down, f"unet.{name}.lora.up.weight": up}
            module.weight.data += up @ down
    save_file(lora, tmp_path / "lora.safetensors")
    untouched = output(base, base.unet)
    unet = distilled(str(tmp_path / "lora.safetensors"), base, adapter)
    assert (output(base, unet) - output(base, _with_attention(expected, base))).abs().max() < 1e-5
    assert torch.equal(output(base, base.unet), untouched)
    assert all(torch.equal(value, before[key]) for key, value in base.unet.state_dict().items())
    assert (output(base, unet) - untouched).abs().max() > 1e-3


def test_what_does_not_fit_is_one_line(base, tmp_path):
    adapter = installed(base)
    state = tiny_unet(0).state_dict()
    state.pop("conv_in.bias")
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=r"less.safetensors: conv_in.bias: is missing$"):
        distilled(str(tmp_path / "less.safetensors"), base, adapter)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^adapter.lightning.weights: .*/empty: cannot be loaded"):
        distilled(str(tmp_path / "empty"), base, adapter)
    with pytest.raises(
        InputError, match=r"^adapter.lightning.weights: owner/name: no such folder or file, and not OWNER"
    ):
        distilled("owner/name", base, adapter)
