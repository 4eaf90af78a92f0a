"""The budget holds over runs, over workers side by side, and over their deaths."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from caption.budget import Budget, spent
from crawl.output import Output


@pytest.fixture
def output(tmp_path):
    return Output(str(tmp_path))


def test_it_allows_so_many_and_no_more(output):
    budget = Budget(output, 10, "a", at_once=4)
    assert [budget.take() for _ in range(12)] == [True] * 10 + [False] * 2
    assert spent(output) == 10


def test_the_next_run_goes_on_where_the_last_one_stopped(output):
    first = Budget(output, 10, "a", at_once=4)
    assert [first.take() for _ in range(5)] == [True] * 5
    first.give_back()
    assert spent(output) == 5
    second = Budget(output, 10, "b", at_once=4)
    assert [second.take() for _ in range(6)] == [True] * 5 + [False]


def test_a_raised_limit_allows_more(output):
    assert [Budget(output, 2, "a", 4).take() for _ in range(1)] == [True]
    budget = Budget(output, 6, "b", 4)
    assert sum(budget.take() for _ in range(9)) == 4


def test_a_killed_worker_has_spent_what_it_took(output):
    Budget(output, 10, "killed", at_once=4).take()
    assert spent(output) == 4
    assert sum(Budget(output, 10, "b", at_once=4).take() for _ in range(1)) == 1


def test_workers_side_by_side_never_spend_too_much(output):
    budgets = [Budget(output, 50, f"worker-{n}", at_once=3) for n in range(4)]
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda n: budgets[n % 4].take(), range(300)))
    assert 40 <= sum(taken) <= 50
    assert spent(output) <= 50


def test_giving_back_is_for_the_others_to_take(output):
    one, other = Budget(output, 4, "a", at_once=4), Budget(output, 4, "b", at_once=4)
    assert one.take()
    assert not other.take()
    one.give_back()
    assert [other.take() for _ in range(4)] == [True] * 3 + [False]
