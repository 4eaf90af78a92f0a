"""Who serves as target and reference: exhaustively, over small datasets that are only an index."""

import itertools

import numpy as np
import pytest

from shards.read import Dataset
from train.data.draws import Draws
from train.data.groups import Groups


@pytest.fixture(scope="module")
def index(people):
    return Dataset(people).index


def owners(index):
    return {p: who for who, positions in index.identities.items() for p in positions}


def test_every_epoch_takes_every_target_once_in_an_order_of_its_own(index):
    groups = Groups(index, 0.0, (1, 4), Draws(0))
    assert len(groups) == 18
    epochs = [[groups.training(18 * epoch + i).target for i in range(18)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(18)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_references_are_one_to_four_other_photos_of_the_target_each_once(index):
    groups, owner = Groups(index, 0.0, (1, 4), Draws(0)), owners(index)
    chosen = [groups.training(i) for i in range(18 * 60)]
    for one in chosen:
        assert one.target not in one.references
        assert len(set(one.references)) == len(one.references) >= 1
        assert {owner[p] for p in one.references} == {owner[one.target]} == {one.identity}
    of_six = [one for one in chosen if len(index.identities[one.identity]) == 6]
    counts = np.bincount([len(one.references) for one in of_six], minlength=5)[1:]
    assert (counts > 0.2 * len(of_six)).all(), f"uniform in 1–4: {counts}"
    pairs = {(one.target, reference) for one in of_six for reference in one.references}
    positions = next(p for p in index.identities.values() if len(p) == 6)
    assert pairs == set(itertools.permutations(positions, 2)), "every other photo serves every target"
    of_three = [one for one in chosen if len(index.identities[one.identity]) == 3]
    assert {len(one.references) for one in of_three} == {1, 2}, "no more than there are"


def test_choices_depend_on_seed_and_counter_only(index):
    one, same, other = (Groups(index, 0.2, (1, 4), Draws(seed)) for seed in (0, 0, 1))
    late_first = [same.training(i) for i in reversed(range(40))][::-1]
    assert [one.training(i) for i in range(40)] == late_first
    assert [other.training(i) for i in range(40)] != late_first
    held_out = [group.held_out.tolist() for group in one.groups]
    assert held_out == [group.held_out.tolist() for group in other.groups], "the split does not depend on the seed"


@pytest.mark.parametrize("holdout", [0.0, 0.25, 0.5, 0.99])
def test_held_out_photos_are_never_trained_on_and_two_stay(index, holdout):
    groups = Groups(index, holdout, (1, 4), Draws(0))
    for group in groups.groups:
        everything = list(index.identities[group.identity])
        assert sorted([*group.training, *group.held_out]) == everything
        assert len(group.held_out) == min(round(holdout * len(everything)), len(everything) - 2)
    held_out = {int(p) for group in groups.groups for p in group.held_out}
    used = [groups.training(i) for i in range(3 * len(groups))]
    assert not held_out & {p for one in used for p in (one.target, *one.references)}


def test_held_out_samples_take_people_in_turn_with_references_from_training(index):
    groups = Groups(index, 0.5, (1, 4), Draws(0))
    chosen = groups.held_out(9)
    assert [one.identity for one in chosen] == [groups.groups[i % 4].identity for i in range(9)]
    for one, group in zip(chosen, itertools.cycle(groups.groups), strict=False):
        assert one.target in group.held_out
        assert set(one.references) <= set(group.training.tolist())
    firsts, seconds = [one.target for one in chosen[:4]], [one.target for one in chosen[4:8]]
    again = [one for one, other in zip(firsts, seconds, strict=True) if one == other]
    assert len(again) == sum(len(group.held_out) == 1 for group in groups.groups)
    assert groups.held_out(3) == chosen[:3]


def test_without_holdout_the_samples_are_training_photos_restored_from_others(index):
    chosen = Groups(index, 0.0, (1, 4), Draws(0)).held_out(4)
    assert all(one.target not in one.references for one in chosen)


def test_people_with_one_photo_cannot_serve_unless_nobody_needs_references(index):
    first = next(iter(index.identities.values()))
    groups = Groups(index, 0.0, (1, 4), Draws(0), without=list(first)[1:])
    assert (groups.alone, len(groups.groups), len(groups)) == (1, 3, 18 - len(first))
    groups = Groups(index, 0.0, (1, 4), Draws(0), least=1, without=list(first)[1:])
    assert (groups.alone, len(groups)) == (0, 18 - len(first) + 1)
    assert {one.references for i in range(30) if (one := groups.training(i)).target == first[0]} == {()}
