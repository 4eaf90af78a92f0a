"""LoRA: nothing at first, then exactly W x + scale · up(down(x)); its keys survive every published spelling."""

import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from peft.utils import get_peft_model_state_dict

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters.attention import install_streams
from train.adapters.lora import add_lora, diffusers_keys, from_numbered_keys, numbered_keys
from train.adapters.settings import LoraSettings
from train.base_models import load_base, tiny_unet


@pytest.fixture
def base():
    return load_base(BaseConfig())


def call(unet):
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(2, 7, 64, generator=generator)
    added = {"text_embeds": torch.randn(2, 32, generator=generator), "time_ids": torch.zeros(2, 6)}
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    return unet(latents, torch.tensor([3, 500]), encoder_hidden_states=context, added_cond_kwargs=added).sample


@torch.no_grad()
def trained(lora, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in lora.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return lora


@torch.no_grad()
def test_it_changes_nothing_until_it_is_trained(base):
    plain = call(base.unet)
    lora = add_lora(base, LoraSettings(rank=4), seed=0)
    assert torch.equal(call(base.unet), plain)
    trained(lora)
    assert (call(base.unet) - plain).abs().max() > 1e-3


@torch.no_grad()
def test_it_equals_the_update_merged_into_the_weights(base):
    lora = trained(add_lora(base, LoraSettings(rank=4, alpha=6), seed=0))
    merged = tiny_unet(0)
    weights = merged.state_dict()
    state = lora.state
    for key in state:
        if key.endswith(".lora.down.weight"):
            name = key.removesuffix(".lora.down.weight")
            weights[f"{name}.weight"] += state[f"{name}.lora.up.weight"] @ state[key]
    difference = (call(base.unet) - call(merged)).abs().max()
    assert difference < 1e-5, f"max |difference| {difference:.2e}"


@pytest.mark.parametrize("init", ["gaussian", "kaiming"])
def test_its_start_depends_on_its_seed_alone(init):
    states = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 2)):
        torch.manual_seed(global_seed)
        states.append(add_lora(load_base(BaseConfig()), LoraSettings(rank=8, init=init), seed).state)
    downs = [torch.cat([v.flatten() for k, v in s.items() if k.endswith("down.weight")]) for s in states]
    assert torch.equal(downs[0], downs[1])
    assert not torch.equal(downs[0], downs[2])
    expected = 1 / 8 if init == "gaussian" else (1 / (3 * 64)) ** 0.5
    assert downs[0].std() == pytest.approx(expected, rel=0.02)
    assert all(not v.any() for k, v in states[0].items() if k.endswith("up.weight"))


def test_the_frozen_stay_frozen_and_the_streams_trained_in_either_order(base):
    other = load_base(BaseConfig())
    first = install_streams(base, ["identity"])
    lora = add_lora(base, LoraSettings(rank=2), seed=0)
    add_lora(other, LoraSettings(rank=2), seed=0)
    second = install_streams(other, ["identity"])
    for index, processor in first.items():
        assert all(p.requires_grad for p in processor.parameters())
        assert torch.equal(processor.streams["identity"].to_k.weight, second[index].streams["identity"].to_k.weight)
    ours = {id(p) for m in (lora, *first.values()) for p in m.parameters()}
    assert {id(p) for p in base.unet.parameters() if p.requires_grad} == ours
    assert len(lora.state) == 24 * 4 * 2


def test_adapters_are_float32_on_a_bfloat16_base(base):
    base.unet.to(torch.bfloat16)
    lora = add_lora(base, LoraSettings(rank=2), seed=0)
    assert {p.dtype for p in lora.parameters()} == {torch.float32}
    latents, context = torch.zeros(1, 4, 16, 16, dtype=torch.bfloat16), torch.zeros(1, 3, 64, dtype=torch.bfloat16)
    added = {"text_embeds": context.new_zeros(1, 32), "time_ids": context.new_zeros(1, 6)}
    out = base.unet(latents, torch.tensor([9]), encoder_hidden_states=context, added_cond_kwargs=added).sample
    assert out.dtype == torch.bfloat16


def test_every_spelling_of_the_keys_comes_back(base):
    lora = trained(add_lora(base, LoraSettings(rank=2), seed=0))
    state, processors = lora.state, base.processor_names()
    numbered = numbered_keys(state, processors)
    peft = {f"unet.{key}": value for key, value in get_peft_model_state_dict(base.unet).items()}
    old = {  # as FaceID's processors and diffusers before peft wrote it
        f"{processors[int(key.split('.')[0])]}.{key.split('.', 1)[1]}": value for key, value in numbered.items()
    }
    assert any(".processor.to_q_lora.down.weight" in key for key in old)
    by_diffusers = convert_state_dict_to_diffusers(get_peft_model_state_dict(base.unet))
    assert by_diffusers.keys() == state.keys()
    for spelling in (
        state,
        diffusers_keys(peft),
        diffusers_keys(old),
        diffusers_keys(convert_unet_state_dict_to_peft(old)),
        from_numbered_keys(numbered, processors),
    ):
        assert spelling.keys() == state.keys()
        assert all(torch.equal(spelling[key], state[key]) for key in state)
    other = add_lora(load_base(BaseConfig()), LoraSettings(rank=2), seed=5)
    other.load(old)
    assert all(torch.equal(other.state[key], state[key]) for key in state)


@torch.no_grad()
def test_diffusers_loads_it_with_the_same_output(base):
    lora = trained(add_lora(base, LoraSettings(rank=2, alpha=3), seed=0))
    theirs = tiny_unet(0)
    theirs.load_lora_adapter(convert_unet_state_dict_to_peft(lora.state), prefix=None)
    difference = (call(base.unet) - call(theirs)).abs().max()
    assert difference <= 1e-6, f"max |difference| {difference:.2e}"


def test_wrong_weights_are_named(base):
    lora = add_lora(base, LoraSettings(rank=2), seed=0)
    state = lora.state
    first = next(iter(state))
    faults = {
        "is missing": {key: value for key, value in state.items() if key != first},
        "is unknown here": state | {f"mid_block.{first}": state[first]},
        "expected \\[2, 64\\]": state | {first: torch.zeros(3, 64)},
        "not a LoRA weight": state | {"lora_unet_alpha": torch.tensor(1.0)},
    }
    for message, faulty in faults.items():
        with pytest.raises(InputError, match=rf"pm\.bin: .*{message}"):
            lora.load(faulty, "pm.bin")
    with pytest.raises(InputError, match=r"99.*24 attention layers"):
        from_numbered_keys({"99.to_q_lora.up.weight": torch.zeros(1)}, base.processor_names())


def test_its_size_on_sdxl(sdxl_base):
    lora = add_lora(sdxl_base, LoraSettings(rank=64), seed=0)
    assert sum(p.numel() for p in lora.parameters()) / 1e6 == pytest.approx(92.90, abs=0.01)
