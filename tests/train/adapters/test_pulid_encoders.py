"""PuLID's encoders: the published sizes and names; what comes from where."""

import pytest
import torch

from train.adapters.pulid_encoders import IdEncoder, IdFormer

REAL = (512 + 768, 1024, 2048)


def inputs(rows=2, tokens=6, width=20, clip=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator), torch.randn(rows, 5, tokens, clip, generator=generator)


@pytest.mark.parametrize(("make", "tokens", "millions"), [(IdEncoder, 10, 54.9), (IdFormer, 32, 151.4)])
def test_real_sizes(make, tokens, millions):
    with torch.device("meta"):
        encoder = make(*REAL)
        out = encoder(torch.randn(1, 1280), torch.randn(1, 5, 577, 1024))
    assert out.shape == (1, tokens, 2048)
    assert encoder.tokens == tokens
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6, 1) == millions


def mlp_keys(name):
    return {f"{name}.{place}.{kind}" for place in (0, 1, 3, 4, 6) for kind in ("weight", "bias")}


def test_names_are_the_published_ones():
    mappings = set().union(*(mlp_keys(f"mapping_{i}") for i in range(5)))
    patches = set().union(*(mlp_keys(f"mapping_patch_{i}") for i in range(5)))
    with torch.device("meta"):
        first, second = IdEncoder(*REAL).state_dict(), IdFormer(*REAL).state_dict()
    assert first.keys() == mlp_keys("body") | mappings | patches
    attention = {
        "norm1.weight",
        "norm1.bias",
        "norm2.weight",
        "norm2.bias",
        "to_q.weight",
        "to_kv.weight",
        "to_out.weight",
    }
    feed = {"0.weight", "0.bias", "1.weight", "3.weight"}
    layers = {f"layers.{i}.0.{key}" for i in range(10) for key in attention}
    layers |= {f"layers.{i}.1.{key}" for i in range(10) for key in feed}
    assert second.keys() == mlp_keys("id_embedding_mapping") | mappings | layers | {"latents", "proj_out"}
    assert first["body.0.weight"].shape == (1024, 1280)
    assert first["body.6.weight"].shape == (5 * 2048, 1024)
    assert first["mapping_patch_4.6.weight"].shape == (2048, 1024)
    assert second["layers.9.0.to_kv.weight"].shape == (2048, 1024)
    assert second["layers.9.1.1.weight"].shape == (4096, 1024)
    assert second["id_embedding_mapping.6.weight"].shape == (5 * 1024, 1024)
    assert second["proj_out"].shape == (1024, 2048)


@torch.no_grad()
def test_v1_gives_five_tokens_of_the_vector_and_one_of_each_depth():
    encoder = IdEncoder(20, 16, 24)
    vector, scales = inputs()
    tokens = encoder(vector, scales)
    assert tokens.shape == (2, 10, 24)
    other = encoder(vector + 1, scales)
    assert torch.equal(other[:, 5:], tokens[:, 5:])
    assert (other[:, :5] - tokens[:, :5]).abs().amin((0, 2)).min() > 0
    for depth in range(5):
        moved = scales.clone()
        moved[:, depth, 1:] = moved[:, depth, 1:].flip(1)  # patches are averaged: their order says nothing
        assert torch.allclose(encoder(vector, moved), tokens, atol=1e-6)
        moved[:, depth, 0] += 1
        changed = (encoder(vector, moved) - tokens).abs().amax((0, 2)) > 1e-4
        assert changed.tolist() == [place == 5 + depth for place in range(10)]


@torch.no_grad()
def test_v1_1_listens_to_the_vector_and_to_every_depth():
    encoder = IdFormer(20, 16, 24)
    vector, scales = inputs()
    tokens = encoder(vector, scales)
    assert tokens.shape == (2, 32, 24)
    assert (encoder(vector + 1, scales) - tokens).abs().amax() > 1e-3
    for depth in range(5):
        moved = scales.clone()
        moved[0, depth] += torch.randn(6, 16, generator=torch.Generator().manual_seed(depth))
        changed = (encoder(vector, moved) - tokens).abs().amax((1, 2))
        assert changed[0] > 1e-4
        assert changed[1] < 1e-6
    alone = encoder(vector[1:], scales[1:])
    assert torch.allclose(alone, tokens[1:], atol=1e-5)
