"""Decoupled attention: nothing without streams, exactly nothing for samples that lack one."""

import pytest
import torch

from shards.encoders.config import BaseConfig
from train.adapters.adapter import Conditions, Stream
from train.adapters.attention import Watch, install_streams, split_heads
from train.base_models import load_base
from train.step import denoise


@pytest.fixture
def base():
    return load_base(BaseConfig())


def call(base, streams, watch=None):
    generator = torch.Generator().manual_seed(0)
    states = base.text.encode(["a photo of a woman", "a man in red"])
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    conditions = Conditions(states.hidden, states.pooled, torch.zeros(2, 6), streams)
    return denoise(base, latents, torch.tensor([3, 500]), conditions, watch=watch)


@torch.no_grad()
def test_without_streams_the_unet_is_the_base_exactly(base):
    states = base.text.encode(["a photo of a woman", "a man in red"])
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    added = {"text_embeds": states.pooled, "time_ids": torch.zeros(2, 6)}
    timesteps = torch.tensor([3, 500])
    plain = base.unet(latents, timesteps, encoder_hidden_states=states.hidden, added_cond_kwargs=added).sample
    install_streams(base, ["identity"])
    assert torch.equal(call(base, {}), plain)


@torch.no_grad()
def test_a_sample_without_the_stream_is_untouched_and_the_others_are_not(base):
    install_streams(base, ["identity"])
    plain = call(base, {})
    tokens = torch.randn(2, 5, base.context_width, generator=torch.Generator().manual_seed(1))
    for absent in (
        Stream(tokens, present=torch.tensor([True, False])),
        Stream(tokens, mask=torch.tensor([[True] * 5, [False] * 5])),
    ):
        changed = (call(base, {"identity": absent}) - plain).abs().amax((1, 2, 3))
        assert changed[0] > 1e-3
        assert changed[1] == 0


@torch.no_grad()
def test_masked_tokens_do_not_count(base):
    install_streams(base, ["identity"])
    tokens = torch.randn(2, 3, base.context_width, generator=torch.Generator().manual_seed(1))
    longer = torch.cat([tokens, torch.full((2, 2, base.context_width), 9.0)], dim=1)
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    difference = call(base, {"identity": Stream(tokens)}) - call(base, {"identity": Stream(longer, mask=mask)})
    assert difference.abs().max() < 1e-5


def test_a_watch_sees_every_cross_layer_once_and_changes_nothing(base):
    layers = install_streams(base, ["identity"])
    plain, watch = call(base, {}), Watch()
    assert torch.equal(call(base, {}, watch), plain)
    assert len(watch.keys) == len(watch.queries) == len(layers)
    text = base.text.encode(["a photo of a woman", "a man in red"]).hidden
    attentions = [base.unet.get_submodule(name.removesuffix(".processor")) for name in base.cross_layers().values()]
    keys = [split_heads(attention.to_k(text), attention.heads) for attention in attentions]
    for key, query in zip(watch.keys, watch.queries, strict=True):
        assert any(key.shape == one.shape and torch.equal(key, one) for one in keys)
        assert query.shape[:2] == key.shape[:2]


def test_gradients_reach_what_was_watched_and_layers_that_run_again_are_not_seen_again(base):
    layers = install_streams(base, ["identity"])
    tokens = torch.randn(2, 3, base.context_width, generator=torch.Generator().manual_seed(1), requires_grad=True)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            base.unet.enable_gradient_checkpointing()
        watch, tokens.grad = Watch(), None
        call(base, {"identity": Stream(tokens)}, watch)
        sum(query.square().sum() for query in watch.queries).backward()
        assert len(watch.queries) == len(layers)
        gradients.append(tokens.grad)
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)
