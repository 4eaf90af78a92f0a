"""Batches ahead of the loop: in order, bounded, errors where their batch is asked for, no thread left behind."""

import threading
import time

import pytest
import torch

from train.data.loader import Loader


class Source:
    """Steps instead of batches; `log` is what was asked for."""

    def __init__(self, seconds=0.0, bad=None):
        self.seconds, self.bad, self.log, self.grad = seconds, bad, [], []

    def batch(self, step, rows, batch_size):
        self.log.append((step, rows, batch_size))
        self.grad.append(torch.is_grad_enabled())
        time.sleep(self.seconds)
        if step == self.bad:
            raise ValueError(f"step {step} is bad")
        return step


WANTED = [(step, rows) for step in range(4) for rows in (range(2), range(2, 4))]


@pytest.fixture(autouse=True)
def plain_batches(monkeypatch):
    monkeypatch.setattr("train.data.loader.Batch", int)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_batches_come_in_order_then_it_ends(ahead):
    source = Source()
    with Loader(source, WANTED, 4, ahead) as loader:
        assert list(loader) == [step for step, _ in WANTED]
        assert list(loader) == []
    assert source.log == [(step, rows, 4) for step, rows in WANTED]
    assert not any(source.grad)


def test_no_more_are_made_than_asked_for_and_ahead():
    source = Source()
    with Loader(source, ((step, range(1)) for step in range(10**9)), 1, ahead=2) as loader:
        next(loader)
        time.sleep(0.3)
        assert len(source.log) == 4, "one given, two waiting, one in the hand that waits for room"


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_goes_wrong_is_raised_where_its_batch_is_asked_for(ahead):
    with Loader(Source(bad=2), WANTED, 4, ahead) as loader:
        assert [next(loader) for _ in range(4)] == [0, 0, 1, 1]
        with pytest.raises(ValueError, match="step 2 is bad"):
            next(loader)


def test_leaving_early_ends_the_thread_soon():
    began = time.perf_counter()
    with Loader(Source(seconds=0.05), ((step, range(1)) for step in range(10**9)), 1, ahead=1) as loader:
        next(loader)
    assert time.perf_counter() - began < 2


def test_waiting_is_measured_and_making_ahead_hides_it():
    waits = []
    for ahead in (0, 2):
        with Loader(Source(seconds=0.03), WANTED, 4, ahead) as loader:
            for _ in WANTED:
                next(loader)
                time.sleep(0.06)
            waits.append(loader.wait_s)
    assert waits[0] > 8 * 0.03
    assert waits[1] < 0.7 * waits[0], waits
