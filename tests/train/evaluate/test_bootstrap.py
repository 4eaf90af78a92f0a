"""Intervals are over people, and the same every time."""

import numpy as np
import pytest

from train.evaluate.bootstrap import mean


def test_the_same_values_give_the_same_interval_in_any_order():
    values, people = list(np.random.RandomState(0).normal(size=40)), [f"p{i % 8}" for i in range(40)]
    first = mean(values, people)
    assert mean(values, people) == first
    assert first.mean == pytest.approx(np.mean(values))
    assert first.low < first.mean < first.high
    assert (first.images, first.people) == (40, 8)


def test_pictures_of_one_person_do_not_make_it_narrower():
    values, people = [0.0, 1.0, 0.2, 0.7], ["a", "b", "c", "d"]
    few, many = mean(values, people), mean(values * 50, people * 50)
    assert (few.low, few.high) == pytest.approx((many.low, many.high))


def test_one_person_has_no_interval_and_nobody_no_mean():
    assert mean([1.0, 3.0], ["a", "a"]) == mean([3.0, 1.0], ["a", "a"])
    assert mean([1.0, 3.0], ["a", "a"]).low is None
    assert mean([], []) is None
