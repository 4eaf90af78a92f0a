"""IP-Adapter: diffusers' own numbers, exact no-ops, ragged references, every gradient where it belongs."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.adapter import Conditions
from train.adapters.ip_adapter import STREAM, IpAdapter
from train.adapters.settings import IpAdapterSettings, LoraSettings
from train.base_models import load_base
from train.data.draws import Draws
from train.export.probe import probe
from train.step import Step, denoise

ENCODERS = ("base", "plus", "faceid")
AGGREGATIONS = ("concat", "mean", "max", "linear", "attention", "self_attention", "weighted")


def made(references=2, seed=1, **settings):
    """A tiny base, an adapter whose weights are as if trained, a batch for it."""
    base = load_base(BaseConfig(), clip=True, face=True)
    adapter = load_adapter(IpAdapterSettings(**settings), base)
    shake(adapter, seed)
    return base, adapter, probe(base, IpAdapter.needs(adapter.settings), references)


@torch.no_grad()
def shake(adapter, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def call(base, batch, conditions):
    return denoise(base, batch.latents, torch.tensor([3, 500])[: len(batch)], conditions)


def text_only(base, batch):
    states = batch.prompts.states["general"]
    return call(base, batch, Conditions(states.hidden, states.pooled, batch.time_ids))


def rows(batch, row, references=None):
    """One sample of a batch, with its first `references`."""
    one = slice(row, row + 1)

    def cut(value):
        return None if value is None else value[one, :references]

    refs, states = batch.references, batch.prompts.states
    clip = refs.clip and dataclasses.replace(
        refs.clip, **{f.name: cut(getattr(refs.clip, f.name)) for f in dataclasses.fields(refs.clip)}
    )
    part = {k: dataclasses.replace(s, hidden=s.hidden[one], pooled=s.pooled[one]) for k, s in states.items() if k}
    return dataclasses.replace(
        batch,
        keys=batch.keys[one],
        latents=batch.latents[one],
        time_ids=batch.time_ids[one],
        prompts=dataclasses.replace(batch.prompts, states=part | {"": states[""]}),
        references=dataclasses.replace(refs, present=cut(refs.present), clip=clip, embeddings=cut(refs.embeddings)),
        drop=dataclasses.replace(
            batch.drop, **{f.name: getattr(batch.drop, f.name)[one] for f in dataclasses.fields(batch.drop)}
        ),
    )


def with_present(batch, present):
    return batch.replace(references=dataclasses.replace(batch.references, present=torch.tensor(present)))


@torch.no_grad()
def test_a_layer_equals_diffusers_processor():
    base, adapter, batch = made(references=1)
    stream = adapter.conditions(batch).streams[STREAM]
    index, name = next(iter(base.cross_layers().items()))
    attention = base.unet.get_submodule(name.removesuffix(".processor"))
    ours, mine = adapter.ip_adapter[str(index)], attention.processor
    theirs = IPAdapterAttnProcessor2_0(attention.to_q.in_features, base.context_width, (4,), 1.0)
    theirs.to_k_ip[0].weight.copy_(ours.to_k.weight)
    theirs.to_v_ip[0].weight.copy_(ours.to_v.weight)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(2, 16, attention.to_q.in_features, generator=generator)
    text = torch.randn(2, 77, base.context_width, generator=generator)
    difference = mine(attention, hidden, text, streams={STREAM: stream})
    difference = (difference - theirs(attention, hidden, (text, [stream.tokens]))).abs().max()
    assert difference == 0, f"max |difference| {difference:.2e}"


@torch.no_grad()
@pytest.mark.parametrize("per_slot", [False, True])
def test_k_and_v_begin_as_the_layers_own(per_slot):
    base = load_base(BaseConfig(), clip=True)
    adapter = load_adapter(IpAdapterSettings(per_slot=per_slot), base)
    assert list(adapter.ip_adapter) == [str(i) for i in range(1, 24, 2)]
    for index, layer in adapter.ip_adapter.items():
        attention = base.unet.get_submodule(base.cross_layers()[int(index)].removesuffix(".processor"))
        assert torch.equal(layer.to_k.weight, attention.to_k.weight.expand_as(layer.to_k.weight))
        assert torch.equal(layer.to_v.weight, attention.to_v.weight.expand_as(layer.to_v.weight))


@torch.no_grad()
@pytest.mark.parametrize("encoder", ENCODERS)
def test_with_zero_v_it_is_the_base_exactly(encoder):
    base, adapter, batch = made(encoder=encoder)
    assert (call(base, batch, adapter.conditions(batch)) - text_only(base, batch)).abs().max() > 1e-3
    for layer in adapter.ip_adapter.values():
        layer.to_v.weight.zero_()
    assert torch.equal(call(base, batch, adapter.conditions(batch)), text_only(base, batch))


@torch.no_grad()
@pytest.mark.parametrize("encoder", ENCODERS)
def test_dropped_and_absent_is_the_text_only_unet_exactly(encoder):
    base, adapter, batch = made(encoder=encoder, dropped="absent")
    plain = text_only(base, batch)
    assert torch.equal(call(base, batch, adapter.conditions(batch.without(identity=True))), plain)
    assert torch.equal(call(base, batch, adapter.conditions(with_present(batch, [[False] * 2] * 2))), plain)
    half = call(base, batch, adapter.conditions(with_present(batch, [[False, False], [True, False]])))
    assert torch.equal(half[0], plain[0])
    assert (half[1] - plain[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["base", "faceid"])
def test_dropped_to_zeros_is_a_reference_of_zeros(encoder):
    base, adapter, batch = made(encoder=encoder)
    refs = batch.references
    zeros = (
        dataclasses.replace(refs, embeddings=torch.zeros_like(refs.embeddings))
        if encoder == "faceid"
        else dataclasses.replace(refs, clip=dataclasses.replace(refs.clip, pooled=torch.zeros_like(refs.clip.pooled)))
    )
    dropped = call(base, batch, adapter.conditions(batch.without(identity=True)))
    difference = (dropped - call(base, batch, adapter.conditions(batch.replace(references=zeros)))).abs().max()
    assert difference < 1e-6, f"max |difference| {difference:.2e}"
    assert (dropped - text_only(base, batch)).abs().max() > 1e-3


@torch.no_grad()
def test_plus_drops_to_a_picture_of_zeros():
    base, adapter, batch = made(encoder="plus", references=1)
    states = base.clip.states(torch.zeros(2, 3, 64, 64))
    black = dataclasses.replace(batch.references.clip, penultimate=states.penultimate[:, None])
    given = adapter.conditions(batch.replace(references=dataclasses.replace(batch.references, clip=black)))
    dropped = adapter.conditions(batch.without(identity=True))
    difference = (given.streams[STREAM].tokens - dropped.streams[STREAM].tokens).abs().max()
    assert difference < 1e-6, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_dropped_text_is_the_empty_prompt():
    _, adapter, batch = made()
    conditions = adapter.conditions(batch.without(text=True))
    empty = batch.prompts.states[""]
    assert torch.equal(conditions.text, empty.hidden.expand_as(conditions.text))
    assert torch.equal(conditions.pooled, empty.pooled.expand_as(conditions.pooled))


@torch.no_grad()
@pytest.mark.parametrize("per_slot", [False, True])
@pytest.mark.parametrize("how", AGGREGATIONS)
def test_ragged_references_equal_runs_of_their_own(how, per_slot):
    base, adapter, batch = made(references=3, keys=how, values=how, per_slot=per_slot)
    together = call(base, batch, adapter.conditions(with_present(batch, [[True, False, False], [True, True, True]])))
    for row, count in ((0, 1), (1, 3)):
        alone = rows(batch, row, count)
        latents, timestep = batch.latents[row : row + 1], torch.tensor([[3, 500][row]])
        difference = (together[row] - denoise(base, latents, timestep, adapter.conditions(alone))[0]).abs().max()
        assert difference < 2e-6, f"sample {row}: max |difference| {difference:.2e}"


@pytest.mark.parametrize(
    ("settings", "groups"),
    [
        ({}, ["image_proj", "ip_kv"]),
        ({"encoder": "plus", "keys": "attention", "values": "weighted"}, ["image_proj", "ip_kv", "aggregation"]),
        ({"encoder": "faceid", "lora": LoraSettings(rank=4)}, ["image_proj", "ip_kv", "lora"]),
        (
            {"keys": "linear", "values": "self_attention", "self_attention": "concat"},
            ["image_proj", "ip_kv", "aggregation"],
        ),
        ({"per_slot": True, "max_references": 2, "values": "self_attention"}, ["image_proj", "ip_kv", "aggregation"]),
    ],
)
def test_gradients_reach_every_group_and_nothing_frozen(settings, groups):
    base, adapter, batch = made(**settings)
    assert [group.name for group in adapter.groups()] == groups
    trained = list(adapter.trained_parameters())
    everything = [*base.unet.parameters(), *base.clip.parameters(), *base.text.parameters(), *adapter.parameters()]
    assert {id(p) for p in everything if p.requires_grad} == {id(p) for p in trained}
    assert len({id(p) for p in trained}) == len(trained)
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(4))
    timesteps = torch.tensor([3, 500])
    step = Step(base, batch, Draws(0), noise, timesteps, base.add_noise(batch.latents, noise, timesteps))
    sum(term.weight * term.per_sample.mean() for term in adapter.losses(step).values()).backward()
    dead = [n for n, p in adapter.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias of keys shifts all scores of a softmax alike, and max and softmax over one reference have no gradient
    assert [n for n in dead if "to_k.bias" not in n] == []
    assert [n for n, p in base.unet.named_parameters() if p.grad is not None and id(p) not in map(id, trained)] == []


def test_on_a_bfloat16_base_it_trains_in_float32():
    base = load_base(BaseConfig(), clip=True, face=True)
    for module in (base.unet, base.text, base.clip):
        module.to(torch.bfloat16)
    adapter = load_adapter(IpAdapterSettings(encoder="plus", values="attention", lora=LoraSettings(rank=2)), base)
    batch = probe(base, IpAdapter.needs(adapter.settings))
    call(base, batch, adapter.conditions(batch)).square().mean().backward()
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
    assert all(parameter.grad is not None for parameter in adapter.parameters())
    shake(adapter)
    exact = load_adapter(adapter.settings, load_base(BaseConfig(), clip=True))
    exact.load_state_dict(adapter.state_dict())
    rounded = call(base, batch, adapter.conditions(batch)) - call(exact.base, batch, exact.conditions(batch))
    assert 0 < rounded.abs().max() < 0.2, f"max |difference| {rounded.abs().max():.2e}"


def test_it_begins_by_its_seed_alone():
    def state(seed, global_seed):
        torch.manual_seed(global_seed)
        adapter = load_adapter(
            IpAdapterSettings(encoder="plus", values="attention", seed=seed), load_base(BaseConfig(), clip=True)
        )
        return torch.cat([v.flatten() for v in adapter.state_dict().values()])

    assert torch.equal(state(0, 1), state(0, 2))
    assert not torch.equal(state(0, 1), state(1, 1))


@torch.no_grad()
def test_lora_is_in_the_state_and_in_the_output():
    base, adapter, batch = made(encoder="faceid", lora=LoraSettings(rank=2))
    state = adapter.state_dict()
    assert sum(key.startswith("lora.") for key in state) == 24 * 8
    other = load_base(BaseConfig(), clip=True, face=True)
    again = load_adapter(adapter.settings, other)
    again.load_state_dict(state)
    assert torch.equal(call(base, batch, adapter.conditions(batch)), call(other, batch, again.conditions(batch)))


def test_the_identity_vector_follows_the_references_and_not_the_drop():
    _, adapter, batch = made()
    one = adapter.identity_embeddings(batch)
    assert one.shape == (2, 4 * 64)
    assert torch.equal(adapter.identity_embeddings(batch.without(identity=True)), one)
    assert (one[0] - one[1]).abs().max() > 0.1


def test_more_references_than_slots_are_refused():
    _, adapter, batch = made(references=3, max_references=2)
    with pytest.raises(InputError, match=r"max_references: 2.* 3 references"):
        adapter.conditions(batch)


class TestSdxl:
    """Shapes and counts at SDXL's size, as published."""

    def adapter(self, base, **settings):
        clip = SimpleNamespace(width=1280, pooled_width=1024)
        clip.model = SimpleNamespace(config=SimpleNamespace(image_size=28), parameters=lambda: iter([torch.zeros(1)]))
        clip.states = lambda pixels: SimpleNamespace(penultimate=torch.zeros(1, 257, 1280))
        base.clip, base.face = clip, SimpleNamespace(width=512)
        return load_adapter(IpAdapterSettings(**settings), base)

    def millions(self, module):
        return sum(p.numel() for p in module.parameters()) / 1e6

    def test_k_and_v_of_70_layers_the_mid_blocks_last(self, sdxl_base):
        adapter = self.adapter(sdxl_base)
        names = sdxl_base.processor_names()
        assert len(names) == 140
        assert all(name.startswith("mid_block") == (i >= 120) for i, name in enumerate(names))
        assert [int(i) for i in adapter.ip_adapter] == list(range(1, 140, 2))
        widths = [layer.to_k.out_features for layer in adapter.ip_adapter.values()]
        assert (widths.count(1280), widths.count(640)) == (60, 10)
        assert self.millions(adapter.ip_adapter) == pytest.approx(340.79, abs=0.01)

    def test_per_slot_is_2n_matrices_a_layer(self, sdxl_base):
        adapter = self.adapter(sdxl_base, per_slot=True, max_references=3)
        assert self.millions(adapter.ip_adapter) == pytest.approx(3 * 340.79, abs=0.02)

    def test_the_encoders(self, sdxl_base):
        plus = self.adapter(sdxl_base, encoder="plus").image_proj
        assert self.millions(plus) == pytest.approx(83.0, abs=0.05)
        assert plus.layers[0][0].heads == 20
        assert plus.latents.shape == (1, 16, 1280)

    def test_faceid_with_lora(self, sdxl_base):
        adapter = self.adapter(sdxl_base, encoder="faceid", lora=LoraSettings(rank=128))
        assert {k: tuple(v.shape) for k, v in adapter.image_proj.state_dict().items() if k.startswith("proj")} == {
            "proj.0.weight": (1024, 512),
            "proj.0.bias": (1024,),
            "proj.2.weight": (8192, 1024),
            "proj.2.bias": (8192,),
        }
        assert self.millions(adapter.lora) == pytest.approx(185.8, abs=0.05)
