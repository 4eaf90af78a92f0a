"""Aggregators G and U: what they compute, when order counts, and how keys and values meet."""

import itertools

import pytest
import torch

from train.adapters.aggregation import Attention, SelfAttention, aggregator
from train.adapters.attention import attend, split_heads
from train.adapters.reference_attention import ReferenceKv, ReferenceStream
from train.adapters.settings import IpAdapterSettings

ALL = ("concat", "mean", "max", "linear", "attention", "self_attention", "weighted")
SLOTS, TOKENS, WIDTH, HEADS = 3, 4, 32, 2
PRESENT = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(how, **settings):
    """An aggregator with weights as if trained."""
    settings = IpAdapterSettings(tokens=TOKENS, max_references=SLOTS, **settings)
    module = aggregator(how, settings, WIDTH)
    for number, parameter in enumerate(module.parameters()):
        parameter.data += 0.3 * draw(*parameter.shape, seed=10 + number)
    return module


def layer(slots=None):
    attention = torch.nn.Module()
    attention.to_k, attention.to_v = (torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in "kv")
    attention.to_k.weight.data = draw(WIDTH, WIDTH, seed=1) / 4
    attention.to_v.weight.data = draw(WIDTH, WIDTH, seed=2) / 4
    kv = ReferenceKv(attention, slots)
    if slots:
        for seed, matrices in ((3, kv.to_k), (4, kv.to_v)):
            matrices.weight.data += draw(slots, WIDTH, WIDTH, seed=seed) / 8
    return kv


def run(keys, values, tokens, present, kv):
    """Of one layer [B, 5, WIDTH]."""
    stream = ReferenceStream(
        tokens=tokens.flatten(1, 2),
        mask=present.repeat_interleave(TOKENS, 1),
        keys=keys(tokens, present),
        values=values(tokens, present),
    )
    if max(stream.keys.count, stream.values.count) == 1:
        stream = ReferenceStream(tokens=stream.tokens, keys=stream.keys, values=stream.values)
    query = split_heads(draw(len(tokens), 5, WIDTH, seed=5), HEADS)
    return kv(query, stream, HEADS)


@torch.no_grad()
@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("per_slot", [False, True])
def test_the_order_of_references_counts_only_where_it_must(how, per_slot):
    module, kv = trained(how), layer(SLOTS if per_slot else None)
    tokens, present = draw(1, SLOTS, TOKENS, WIDTH, seed=6), PRESENT[:1]
    outputs = [run(module, module, tokens[:, list(order)], present, kv) for order in itertools.permutations(range(3))]
    spread = max(float((output - outputs[0]).abs().max()) for output in outputs)
    if how == "linear" or per_slot:
        assert spread > 1e-3
    else:
        assert spread < 2e-6, f"max |difference| {spread:.2e}"


@torch.no_grad()
def test_self_attention_that_concatenates_depends_on_order_as_its_authors_write():
    module = trained("self_attention", self_attention="concat")
    tokens = draw(1, SLOTS, TOKENS, WIDTH, seed=6)
    a, b = (run(module, module, t, PRESENT[:1], layer()) for t in (tokens, tokens.flip(1)))
    assert (a - b).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(
    ("how", "per_slot", "pool"),
    [*((how, per_slot, "mean") for how in ALL for per_slot in (False, True)), ("self_attention", False, "concat")],
)
def test_absent_slots_count_for_nothing(how, per_slot, pool):
    module, kv = trained(how, self_attention=pool), layer(SLOTS if per_slot else None)
    tokens = draw(3, SLOTS, TOKENS, WIDTH, seed=6)
    together = run(module, module, tokens, PRESENT, kv)
    noisy = torch.where(PRESENT[..., None, None], tokens, 99 * draw(*tokens.shape, seed=7))
    assert torch.equal(together, run(module, module, noisy, PRESENT, kv))
    query = draw(3, 5, WIDTH, seed=5)
    for row, count in enumerate(PRESENT.sum(1).tolist()):
        one, present = tokens[row : row + 1, :count], PRESENT[row : row + 1, :count]
        pooled = module(one, present)
        stream = ReferenceStream(tokens=one.flatten(1, 2), keys=pooled, values=pooled)
        alone = kv(split_heads(query[row : row + 1], HEADS), stream, HEADS)
        difference = (together[row] - alone[0]).abs().max() / together.abs().max()
        assert difference < 2e-6, f"sample {row}: max |difference| {difference:.2e} of the largest value"


@torch.no_grad()
@pytest.mark.parametrize("how", ["linear", "attention", "self_attention", "weighted"])
@pytest.mark.parametrize("pool", ["mean", "concat"])
def test_every_learned_aggregator_begins_as_the_mean_or_near_it(how, pool):
    torch.manual_seed(0)
    settings = IpAdapterSettings(tokens=TOKENS, max_references=SLOTS, self_attention=pool)
    tokens, full = draw(1, SLOTS, TOKENS, WIDTH, seed=6), PRESENT[:1]
    pooling = aggregator(how, settings, WIDTH)(tokens, full)
    difference = (pooling(pooling.tokens) - tokens.mean(1, keepdim=True)).abs().max()
    # self-attention's q and k begin at random: nearly even, not even
    assert difference < (0.6 if how == "self_attention" else 1e-6), f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_per_slot_is_g_over_each_references_own_matrices():
    """K′ = G(W′_k,1 x_1, …, W′_k,N x_N), written out."""
    kv, mean, most = layer(SLOTS), trained("mean"), trained("max")
    tokens = draw(2, SLOTS, TOKENS, WIDTH, seed=6)
    keys = torch.stack([tokens[:, p] @ kv.to_k.weight[p].T for p in range(SLOTS)]).mean(0)
    values = torch.stack([tokens[:, p] @ kv.to_v.weight[p].T for p in range(SLOTS)]).amax(0)
    query = split_heads(draw(2, 5, WIDTH, seed=5), HEADS)
    stream = ReferenceStream(tokens=tokens.flatten(1, 2), keys=None, values=None)
    expected = attend(query, split_heads(keys, HEADS), split_heads(values, HEADS), stream)
    difference = (run(mean, most, tokens, PRESENT[:1].expand(2, -1), kv) - expected).abs().max()
    assert difference < 2e-6, f"max |difference| {difference:.2e}"
    shared = run(mean, most, tokens, PRESENT[:1].expand(2, -1), layer())
    assert (shared - expected).abs().max() > 1e-2


@torch.no_grad()
def test_keys_and_values_may_be_pooled_differently():
    """With one set of keys beside each reference's values, attention is over their mean: that is algebra."""
    tokens, kv = draw(3, SLOTS, TOKENS, WIDTH, seed=6), layer()
    concat, mean, most = trained("concat"), trained("mean"), trained("max")
    for one in (mean, most):
        difference = (run(one, concat, tokens, PRESENT, kv) - run(one, mean, tokens, PRESENT, kv)).abs().max()
        assert difference < 2e-6, f"max |difference| {difference:.2e}"
    outputs = [run(g, u, tokens, PRESENT, kv) for g in (concat, mean, most) for u in (concat, mean, most)]
    different = [(a - b)[:2].abs().max() > 1e-3 for a, b in itertools.combinations(outputs, 2)]
    assert different.count(False) == 2
    one_reference = [output[2] for output in outputs]
    assert all((a - one_reference[0]).abs().max() < 2e-6 for a in one_reference)


@torch.no_grad()
def test_attention_and_self_attention_written_out():
    tokens, full = draw(1, SLOTS, TOKENS, WIDTH, seed=6), PRESENT[:1]
    module = trained("attention")
    assert isinstance(module, Attention)
    for t in range(TOKENS):
        scores = torch.stack([module.query[t] @ (module.to_k.weight @ tokens[0, p, t]) for p in range(SLOTS)])
        expected = ((scores / WIDTH**0.5).softmax(0)[:, None] * tokens[0, :, t]).sum(0)
        pooling = module(tokens, full)
        assert (pooling(tokens)[0, 0, t] - expected).abs().max() < 2e-6
    module = trained("self_attention")
    assert isinstance(module, SelfAttention)
    x = tokens[0, :, 0]
    q, k, v = (linear(x) for linear in (module.to_q, module.to_k, module.to_v))
    expected = ((q @ k.T / WIDTH**0.5).softmax(-1) @ v).mean(0)
    pooling = module(tokens, full)
    assert (pooling(pooling.tokens)[0, 0, 0] - expected).abs().max() < 2e-6


def test_a_single_set_has_no_slots():
    with pytest.raises(ValueError, match="per_slot"):
        IpAdapterSettings(keys="self_attention", self_attention="concat", per_slot=True)
