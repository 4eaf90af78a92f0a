"""Identity attention: plain, zero tokens and both orthogonal modes against loops in float64."""

import dataclasses
import math

import pytest
import torch

from train.adapters.attention import StreamKv, join_heads, split_heads
from train.adapters.pulid_attention import ZERO_TOKENS, IdentityKv, IdentityStream

WIDTH, HEADS, PLACES, TOKENS = 8, 2, 6, 7


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def layer():
    attention = torch.nn.Module()
    attention.to_k, attention.to_v = (torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in "kv")
    attention.to_k.weight.data, attention.to_v.weight.data = draw(WIDTH, WIDTH, seed=1), draw(WIDTH, WIDTH, seed=2)
    return IdentityKv(attention).double(), StreamKv(attention).double()


QUERY = split_heads(draw(2, PLACES, WIDTH, seed=3), HEADS)
TEXT = split_heads(draw(2, PLACES, WIDTH, seed=4), HEADS)


def stream(mode, **changes):
    own = torch.arange(TOKENS) < 5
    return IdentityStream(tokens=draw(2, TOKENS, WIDTH, seed=5), mode=mode, own=own, scale=0.7, **changes)


def softmax(logits):
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def written_out(kv, given, mask):
    """[B, L, D], number by number, with the channels of all heads end to end."""
    zeros = ZERO_TOKENS[given.mode]
    out = []
    for sample in range(2):
        tokens = [row for row, there in zip(given.tokens[sample].tolist(), mask[sample], strict=True) if there]
        own = [flag for flag, there in zip(given.own.tolist(), mask[sample], strict=True) if there] + [False] * zeros
        key, value = (
            [
                [sum(w * t for w, t in zip(row, token, strict=True)) for row in linear.weight.tolist()]
                for token in tokens
            ]
            + [[0.0] * WIDTH] * zeros
            for linear in (kv.id_to_k, kv.id_to_v)
        )
        each = WIDTH // HEADS
        text, identity = join_heads(TEXT)[sample].tolist(), [[0.0] * WIDTH for _ in range(PLACES)]
        share = [0.0] * PLACES
        for place in range(PLACES):
            for head in range(HEADS):
                part = slice(head * each, head * each + each)
                query = QUERY[sample, head, place].tolist()
                logits = [sum(q * k for q, k in zip(query, row[part], strict=True)) for row in key]
                weights = softmax([logit / math.sqrt(each) for logit in logits])
                for channel in range(part.start, part.stop):
                    identity[place][channel] = sum(w * row[channel] for w, row in zip(weights, value, strict=True))
                share[place] += sum(w for w, is_own in zip(softmax(logits), own, strict=True) if is_own) / HEADS
        rows = [list(row) for row in text]
        for channel in range(WIDTH):
            dot = sum(text[p][channel] * identity[p][channel] for p in range(PLACES))
            length = sum(text[p][channel] ** 2 for p in range(PLACES))
            for place in range(PLACES):
                along = dot / length * text[place][channel]
                left = {"plain": 0.0, "style": -along, "fidelity": (share[place] - 1) * along}[given.mode]
                rows[place][channel] += given.scale * (identity[place][channel] + left)
        out.append(rows)
    return torch.tensor(out, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", ["plain", "fidelity", "style"])
def test_each_mode_is_the_written_out_one(layer, mode, masked):
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 4:] = not masked
    given = stream(mode, mask=mask if masked else None)
    found = join_heads(layer[0].joined(TEXT, QUERY, given, HEADS))
    assert (found - written_out(layer[0], given, mask.tolist())).abs().max() < 1e-6


@torch.no_grad()
def test_plain_is_the_attention_of_every_other_adapter(layer):
    given = stream("plain")
    assert torch.equal(*(kv.joined(TEXT, QUERY, given, HEADS) for kv in layer))


@torch.no_grad()
@pytest.mark.parametrize("mode", ["plain", "fidelity", "style"])
def test_at_scale_zero_it_is_not_there_and_absent_it_is_not_there(layer, mode):
    zero = dataclasses.replace(stream(mode), scale=0.0)
    assert (layer[0].joined(TEXT, QUERY, zero, HEADS) - TEXT).abs().max() == (
        0 if mode == "plain" else pytest.approx(0, abs=1e-6)
    )
    absent = stream(mode, present=torch.tensor([True, False]))
    changed = (layer[0].joined(TEXT, QUERY, absent, HEADS) - TEXT).abs().amax((1, 2, 3))
    assert changed[0] > 0.01
    assert changed[1] < 1e-6


@torch.no_grad()
def test_style_adds_nothing_that_lies_along_the_text(layer):
    added = layer[0].joined(TEXT, QUERY, stream("style"), HEADS) - TEXT
    assert (added * TEXT).sum(-2).abs().max() < 1e-5
    plain = layer[0].joined(TEXT, QUERY, stream("plain"), HEADS) - TEXT
    assert (plain * TEXT).sum(-2).abs().max() > 0.1
