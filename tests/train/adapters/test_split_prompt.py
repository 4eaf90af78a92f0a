"""Prompts in parts: an absent part is exactly nothing, an untrained sequence is the base, sums are the formula."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from train.adapters.adapter import Stream
from train.adapters.photomaker import PhotoMaker
from train.adapters.sequential import SequentialAttention, Stage
from train.adapters.settings import LoraSettings, SplitPromptSettings
from train.data.batch import Drop
from train.step import denoise

BOTH = ("background", "body")
WAYS = {
    "background": SplitPromptSettings(lora=LoraSettings(rank=2)),
    "background and body": SplitPromptSettings(lora=LoraSettings(rank=2), parts=BOTH),
    "identity by attention": SplitPromptSettings(lora=None, identity_path="attention"),
    "sequential": SplitPromptSettings(lora=None, parts=("body", "background"), order="sequential"),
    "sequential, identity only there": SplitPromptSettings(
        lora=None, parts=BOTH, order="sequential", identity_path="attention"
    ),
}
STREAMS = {
    "background": ["background"],
    "background and body": ["background", "body"],
    "identity by attention": ["background", "identity"],
    "sequential": ["background", "body", "identity"],
    "sequential, identity only there": ["background", "body", "identity"],
}
GROUPS = {
    "background": {"projections", "fuse", "lora", "kv"},
    "background and body": {"projections", "fuse", "lora", "kv"},
    "identity by attention": {"projections", "kv", "norm"},
    "sequential": {"projections", "fuse", "kv", "norm"},
    "sequential, identity only there": {"projections", "kv", "norm"},
}


@torch.no_grad()
def stirred(adapter):
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.trained_parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return adapter


@pytest.fixture(scope="module", params=WAYS)
def way(request, made, photo_batch):
    """Name, base, adapter with every trained weight moved, and a batch: for tests that leave them as they are."""
    base, adapter = made(WAYS[request.param])
    return request.param, base, stirred(adapter), photo_batch(base)


def unet(base, adapter, batch):
    return denoise(base, batch.latents, torch.arange(len(batch)) * 300 + 20, adapter.conditions(batch))


def text_only(base, batch):
    states = base.text.encode(batch.prompts.general)
    added = {"text_embeds": states.pooled, "time_ids": batch.time_ids}
    timesteps = torch.arange(len(batch)) * 300 + 20
    return base.unet(batch.latents, timesteps, encoder_hidden_states=states.hidden, added_cond_kwargs=added).sample


def dropped(batch, **parts):
    """Conditions dropped for all samples."""
    return batch.replace(
        drop=dataclasses.replace(batch.drop, **{p: torch.tensor([yes] * 3) for p, yes in parts.items()})
    )


def heads(states, count):
    return states.unflatten(-1, (count, -1)).transpose(1, 2)


def attention(query, key, value, count):
    """softmax(QKᵀ/√d)V, written out; [B, L, D] each."""
    query, key, value = (heads(states, count) for states in (query, key, value))
    weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
    return (weights @ value).transpose(1, 2).flatten(2)


def test_there_is_an_attention_for_each_part_and_its_weights_are_named_by_it(way):
    name, base, adapter, batch = way
    assert list(adapter.adapters) == STREAMS[name]
    assert sorted(adapter.conditions(batch).streams) == sorted(STREAMS[name])
    state = adapter.state_dict()
    for stream in STREAMS[name]:
        assert {f"adapters.{stream}.{index}.to_k.weight" for index in base.cross_layers()} <= state.keys()
    needs = adapter.needs(adapter.settings)
    assert set(needs.parts) == {"general", *adapter.settings.parts}
    assert set(adapter.settings.parts) <= set(needs.text)


@torch.no_grad()
def test_dropping_all_conditions_gives_the_text_only_unet_exactly(way):
    _, base, adapter, batch = way
    none = dropped(batch, identity=True, background=True, body=True)
    plain = text_only(base, batch)
    difference = (unet(base, adapter, none) - plain).abs().max()
    assert difference == 0, f"max |difference| {difference:.2e}"
    changed = (unet(base, adapter, dropped(none, background=False)) - plain).abs().amax((1, 2, 3)).min()
    assert changed > 1e-4, f"the background alone changes the output by {changed:.2e}"


@torch.no_grad()
def test_an_empty_part_is_absent_for_its_sample_alone(way, photo_batch):
    _, base, adapter, batch = way
    empty = photo_batch(base, background=("a white wall", "", "a street with cars"))
    no = torch.zeros(3, dtype=torch.bool)
    one_dropped = batch.replace(drop=Drop(no, no, torch.tensor([False, True, False]), no))
    by_text, by_drop = adapter.conditions(empty), adapter.conditions(one_dropped)
    assert by_text.streams["background"].present.tolist() == [True, False, True]
    assert by_drop.streams["background"].present.tolist() == [True, False, True]


def test_a_dropped_text_drops_every_part(way):
    _, _, adapter, batch = way
    streams = adapter.conditions(dropped(batch, text=True)).streams
    assert not any(stream.present.any() if stream.mask is None else stream.mask.any() for stream in streams.values())


def test_gradients_reach_every_trained_weight_and_no_frozen_one(way):
    name, base, adapter, batch = way
    adapter.zero_grad()
    unet(base, adapter, batch).square().mean().backward()
    groups = adapter.groups()
    assert {group.name for group in groups} == GROUPS[name]
    trained = {id(p) for group in groups for p in group.parameters}
    for group in groups:
        reached = [bool(p.grad is not None and p.grad.abs().max() > 0) for p in group.parameters]
        assert all(reached), f"{group.name}: {reached.count(False)} of {len(reached)} weights without gradient"
    for module in (base.unet, base.text, base.clip, base.vae, adapter):
        assert not any(p.grad is not None for p in module.parameters() if id(p) not in trained)


@torch.no_grad()
def test_an_untrained_sequence_is_the_base_exactly_and_an_untrained_parallel_attention_is_not(made, photo_batch):
    base, adapter = made(WAYS["sequential, identity only there"])
    batch = photo_batch(base)
    difference = (unet(base, adapter, batch) - text_only(base, batch)).abs().max()
    assert difference == 0, f"max |difference| {difference:.2e}"
    base, adapter = made(WAYS["background"])
    identity_only = dropped(batch, identity=True)
    assert (unet(base, adapter, identity_only) - text_only(base, batch)).abs().max() > 1e-4
    for kv in adapter.adapters["background"].children():
        kv.to_v.weight.zero_()
    difference = (unet(base, adapter, identity_only) - text_only(base, batch)).abs().max()
    assert difference == 0, f"zero V: max |difference| {difference:.2e}"


@torch.no_grad()
def test_parallel_attentions_begin_as_the_bases_own_and_add_up(made):
    base, adapter = made(SplitPromptSettings(lora=None, parts=BOTH, scales={"background": 0.5}))
    name = base.cross_layers()[9]
    layer, processor = base.unet.get_submodule(name.removesuffix(".processor")), base.unet.attn_processors[name]
    for stream in BOTH:
        assert torch.equal(processor.streams[stream].to_k.weight, layer.to_k.weight)
        assert torch.equal(processor.streams[stream].to_v.weight, layer.to_v.weight)
        assert adapter.adapters[stream]["9"] is processor.streams[stream]
    stirred(adapter)
    torch.manual_seed(0)
    hidden, text, background, body = torch.randn(2, 6, 64), *torch.randn(3, 2, 77, 64)
    streams = {"background": Stream(background, scale=0.5), "body": Stream(body)}
    query = layer.to_q(hidden)
    expected = attention(query, layer.to_k(text), layer.to_v(text), layer.heads)
    for part, tokens in (("background", background), ("body", body)):
        kv = processor.streams[part]
        expected += streams[part].scale * attention(query, kv.to_k(tokens), kv.to_v(tokens), layer.heads)
    difference = (layer(hidden, text, streams=streams) - layer.to_out[0](expected)).abs().max()
    assert difference < 1e-5, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_the_sequence_is_the_formula_in_its_order(made):
    base, adapter = made(WAYS["sequential"])
    name = base.cross_layers()[9]
    layer, processor = base.unet.get_submodule(name.removesuffix(".processor")), base.unet.attn_processors[name]
    assert isinstance(processor, SequentialAttention)
    assert list(processor.streams) == ["background", "body", "identity"]
    for stage in processor.streams.values():
        assert torch.equal(stage.to_q.weight, layer.to_q.weight)
        assert not stage.to_out.weight.any()
    stirred(adapter)
    torch.manual_seed(0)
    x, text, *conditions = torch.randn(2, 6, 64), *torch.randn(4, 2, 7, 64)
    streams = dict(zip(processor.streams, map(Stream, conditions), strict=True))
    h = x + layer.to_out[0](attention(layer.to_q(x), layer.to_k(text), layer.to_v(text), layer.heads))
    for stage, c in zip(processor.streams.values(), conditions, strict=True):
        h = h + stage.to_out(attention(stage.to_q(h), stage.to_k(c), stage.to_v(c), layer.heads))
    difference = (layer(x, text, streams=streams) - (h - x)).abs().max()
    assert difference < 1e-5, f"max |difference| {difference:.2e}"
    turned = dict(zip(reversed(list(processor.streams)), map(Stream, conditions), strict=True))
    assert (layer(x, text, streams=turned) - (h - x)).abs().max() > 1e-3


@torch.no_grad()
def test_a_condition_that_is_absent_leaves_no_trace_in_a_trained_sequence(made):
    base, adapter = made(WAYS["sequential"])
    stirred(adapter)
    name = base.cross_layers()[9]
    layer = base.unet.get_submodule(name.removesuffix(".processor"))
    torch.manual_seed(0)
    x, text, *conditions = torch.randn(2, 6, 64), *torch.randn(4, 2, 7, 64)
    streams = dict(zip(("background", "body", "identity"), map(Stream, conditions), strict=True))
    for gone in streams:
        others = {stream: value for stream, value in streams.items() if stream != gone}
        without = layer(x, text, streams=others)
        some = dataclasses.replace(streams[gone], present=torch.tensor([False, True]))
        mixed = layer(x, text, streams={**streams, gone: some})
        assert torch.equal(mixed[0], without[0])
        assert (mixed[1] - without[1]).abs().max() > 1e-3


@torch.no_grad()
def test_the_thesis_own_sequence_with_a_shared_output_is_not_the_base(made):
    """Why each stage has an output of its own: with the layer's, even V = 0 adds the skip and the bias once more."""
    base, _ = made(WAYS["sequential"])
    layer = base.unet.get_submodule(base.cross_layers()[9].removesuffix(".processor"))
    torch.manual_seed(0)
    x, text = torch.randn(2, 6, 64), torch.randn(2, 7, 64)
    plain = layer(x, text)
    shared = x + plain + layer.to_out[0](torch.zeros_like(x))
    assert (shared - plain).abs().max() > 1
    stage = Stage(layer)
    assert not stage.added(x + plain, Stream(torch.randn(2, 3, 64)), layer.heads).any()


@torch.no_grad()
def test_scales_reach_their_attention(made, photo_batch):
    base, adapter = made(SplitPromptSettings(lora=None, parts=BOTH, scales={"body": 0.0, "background": 0.25}))
    streams = adapter.conditions(photo_batch(base)).streams
    assert {name: stream.scale for name, stream in streams.items()} == {"background": 0.25, "body": 0.0}


@torch.no_grad()
def test_identity_and_prompt_are_photomakers(made, photo_batch):
    base, adapter = made(WAYS["background"])
    batch = photo_batch(base)
    alone = PhotoMaker.conditions(adapter, batch)
    assert isinstance(adapter, PhotoMaker)
    assert torch.equal(adapter.conditions(batch).text, alone.text)
    _, plain = made(SplitPromptSettings(lora=None, order="sequential", identity_path="attention"))
    assert torch.equal(plain.conditions(batch).text, batch.prompts.states["general"].hidden)


@torch.no_grad()
def test_the_last_stage_reads_the_stacked_id_embeddings(made, photo_batch):
    base, adapter = made(WAYS["sequential"])
    batch = photo_batch(base)
    stream = adapter.conditions(batch).streams["identity"]
    _, embeddings = adapter._looked(batch, batch.references.present)
    assert torch.equal(stream.mask, batch.references.present)
    difference = (stream.tokens[stream.mask] - functional.layer_norm(embeddings[:, 0], (64,))).abs().max()
    assert difference < 1e-6, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_sequences_run_in_bfloat16(made, photo_batch):
    base, adapter = made(WAYS["sequential"], torch.bfloat16)
    stirred(adapter)
    with torch.autocast("cpu", torch.bfloat16):
        assert unet(base, adapter, photo_batch(base)).isfinite().all()
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}


def test_settings_that_cannot_be_are_refused():
    for faulty, message in (
        ({"parts": ("body", "body")}, "each part once"),
        ({"parts": ()}, "at least 1 item"),
        ({"order": "sequential", "identity_path": "attention", "copy_lora": True}, "copy_lora: the sequential"),
        ({"scales": {"general": 1.0}}, "scales.general"),
    ):
        with pytest.raises(ValidationError, match=message):
            SplitPromptSettings(**faulty)
