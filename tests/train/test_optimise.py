"""Learning rates counted in optimiser steps, groups, the running mean."""

import pytest
import torch
from torch import nn

from crawl.errors import InputError
from train.adapters.adapter import Group
from train.config import OptimConfig
from train.optimise import Ema, Optimiser, lr_factor
from train.trained import Trained


def two_groups():
    torch.manual_seed(0)
    names = {"adapter.a": nn.Parameter(torch.randn(3, 2)), "adapter.b": nn.Parameter(torch.randn(4))}
    first, second = names.values()
    flat = torch.zeros(10)
    first.grad, second.grad = flat[:6].view(3, 2), flat[6:]
    return Trained((Group("first", (first,)), Group("second", (second,))), names, flat)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.8536, 0.5, 0.1464]),
    ],
)
def test_warm_up_then_schedule_in_optimiser_steps(schedule, expected):
    config = OptimConfig(warmup_steps=4, schedule=schedule)
    assert [lr_factor(step, config, 8) for step in range(8)] == pytest.approx(expected, abs=1e-4)


def test_each_group_has_its_own_rate():
    optimiser = Optimiser(two_groups(), OptimConfig(lr=1e-2, group_lr={"second": 1e-3}, warmup_steps=2), 10)
    assert optimiser.lr(0) == {"first": 0.005, "second": 0.0005}
    assert optimiser.lr(1) == {"first": 0.01, "second": 0.001}


def test_a_group_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"optim\.group_lr\.lora: this run has the groups first, second"):
        Optimiser(two_groups(), OptimConfig(group_lr={"lora": 1e-3}), 10)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_it_is_torchs_own_optimiser_at_that_rate(name):
    what, theirs = two_groups(), two_groups()
    config = OptimConfig(name=name, lr=1e-2, warmup_steps=2, weight_decay=0.1)
    ours = Optimiser(what, config, 10)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    reference = kind(list(theirs.names.values()), lr=1e-2, weight_decay=0.1 if name == "adamw" else 0, fused=True)
    for step, rate in enumerate((0.005, 0.01, 0.01)):
        for trained in (what, theirs):
            trained.gradients.copy_(torch.linspace(-1, 1, 10) * (step + 1))
        reference.param_groups[0]["lr"] = rate
        ours.step(step)
        reference.step()
    for one, other in zip(what.names.values(), theirs.names.values(), strict=True):
        assert torch.equal(one, other)


def test_state_goes_out_and_in_by_name():
    what, same = two_groups(), two_groups()
    first, second = Optimiser(what, OptimConfig(), 10), Optimiser(same, OptimConfig(), 10)
    what.gradients.fill_(1.0)
    first.step(0)
    second.load({key: value.clone() for key, value in first.state().items()})
    assert first.state().keys() == {
        f"adapter.{name}#{key}" for name in "ab" for key in ("step", "exp_avg", "exp_avg_sq")
    }
    assert all(torch.equal(value, second.state()[key]) for key, value in first.state().items())


def test_the_running_mean_follows_the_weights():
    what = two_groups()
    ema = Ema(what, 0.9)
    parameter = what.names["adapter.a"]
    mean = parameter.detach().clone()
    for step in range(3):
        parameter.data.add_(1)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * parameter.detach()
    assert torch.allclose(ema.state()["adapter.a"], mean, atol=1e-6)
    now = parameter.detach().clone()
    with ema.applied():
        assert torch.allclose(parameter, mean, atol=1e-6)
    assert torch.equal(parameter, now)
