"""Alignment losses: the paper's equations with loops in float64; exactly nothing where nothing moved."""

import math

import torch

from train.adapters.alignment import alignment
from train.adapters.attention import Watch

SHAPES = ((2, 3, 6, 4), (2, 2, 4, 8))  # of two layers' queries: B, heads, L, d
WORDS = 5


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def watches(seed=0):
    keys = [draw(b, heads, WORDS, d, seed=seed + 1) for b, heads, _, d in SHAPES]
    one, other = ([draw(*shape, seed=seed + n) for shape in SHAPES] for n in (2, 3))
    return Watch(keys, one), Watch(keys, other)


def response(key, query):
    """softmax(K·Qᵀ/√d)·Q of one head, number by number."""
    places, width = len(query), len(query[0])
    rows = []
    for word in key:
        logits = [sum(k * q for k, q in zip(word, place, strict=True)) / math.sqrt(width) for place in query]
        weights = [math.exp(logit) for logit in logits]
        total = sum(weights)
        rows.append([sum(weights[p] / total * query[p][c] for p in range(places)) for c in range(width)])
    return rows


def distance(one, other):
    squares = [
        (a - b) ** 2
        for head, its in zip(one, other, strict=True)
        for row, line in zip(head, its, strict=True)
        for a, b in zip(row, line, strict=True)
    ]
    return math.sqrt(sum(squares)) / math.sqrt(len(squares))


def test_both_losses_are_the_written_out_ones():
    one, other = watches()
    semantic, layout = alignment(one, other)
    for sample in range(2):
        wanted_semantic, wanted_layout = [], []
        for key, mine, plain in zip(one.keys, one.queries, other.queries, strict=True):
            key, mine, plain = (tensor[sample].tolist() for tensor in (key, mine, plain))
            heads = range(len(key))
            wanted_layout.append(distance(mine, plain))
            answers = ([response(key[h], queries[h]) for h in heads] for queries in (mine, plain))
            wanted_semantic.append(distance(*answers))
        assert abs(float(semantic[sample]) - sum(wanted_semantic) / 2) < 1e-6
        assert abs(float(layout[sample]) - sum(wanted_layout) / 2) < 1e-6
    assert semantic.min() > 0.05
    assert (semantic - layout).abs().min() > 0.01


def test_equal_queries_give_exactly_nothing_and_no_gradient():
    one, other = watches()
    queries = [query.clone().requires_grad_() for query in other.queries]
    losses = alignment(Watch(one.keys, queries), other)
    assert all(torch.equal(loss, torch.zeros_like(loss)) for loss in losses)
    for gradient in torch.autograd.grad(sum(loss.sum() for loss in losses), queries):
        assert torch.equal(gradient, torch.zeros_like(gradient))
