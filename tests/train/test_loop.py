"""The loop: the same step for any split; nothing that is not finite is ever applied."""

import copy

import pytest
import torch

from train.loop import NonFiniteError
from train.step import Term


def never():
    return False


def weights(loop):
    return torch.cat([p.detach().flatten() for p in loop.trained.names.values()])


def losses(loop, last):
    return [record.losses["loss"] for record in loop.steps(0, last, never)]


def test_the_same_seed_gives_the_same_losses_and_weights(tiny_run, told_loop):
    run = tiny_run(loop={"train_unet": False})
    first, again = told_loop(run), told_loop(run)
    assert losses(first, 3) == losses(again, 3)
    assert torch.equal(weights(first), weights(again))
    other = told_loop(tiny_run(loop={"train_unet": False, "seed": 1}))
    assert losses(other, 1) != losses(told_loop(run), 1)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_micro_batches_change_nothing_but_rounding(tiny_run, told_loop, micro_batch):
    whole = told_loop(tiny_run(loop={"train_unet": False}))
    split = told_loop(tiny_run(loop={"train_unet": False, "micro_batch": micro_batch}))
    assert len(split.chunks()) == -(-3 // micro_batch)
    difference = max(abs(a - b) for a, b in zip(losses(whole, 2), losses(split, 2), strict=True))
    assert difference < 1e-6, difference
    one, other = whole.trained.gradients, split.trained.gradients
    assert (one - other).abs().max() < 1e-5 * one.abs().max(), (one - other).abs().max()


@pytest.mark.parametrize(
    "option", [{"gradient_checkpointing": True}, {"channels_last": True}], ids=["checkpointing", "channels_last"]
)
def test_options_that_save_time_or_memory_change_nothing_but_rounding(tiny_run, told_loop, option):
    from train.device import place, quicken

    plain = told_loop(tiny_run(loop={"train_unet": False}))
    run = tiny_run(loop={"train_unet": False, **option})
    other = told_loop(run)
    place(other.base, torch.device("cpu"), run.loop)
    quicken(other.base, run.loop)
    difference = max(abs(a - b) for a, b in zip(losses(plain, 2), losses(other, 2), strict=True))
    assert difference < 1e-5, difference


def test_only_what_is_trained_changes(tiny_run, told_loop):
    loop = told_loop(tiny_run(loop={"train_unet": False}))
    trained = {id(p) for p in loop.trained.names.values()}
    before = {name: p.detach().clone() for name, p in loop.base.unet.named_parameters()}
    for _ in loop.steps(0, 2, never):
        pass
    changed = {name for name, p in loop.base.unet.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert changed <= {name for name, p in loop.base.unet.named_parameters() if id(p) in trained}
    assert all(p.grad is None for p in (*loop.base.text.parameters(), *loop.base.clip.parameters()))


def test_one_batch_can_be_learned_by_heart(tiny_run, told_loop):
    run = tiny_run(optim={"lr": 2e-3}, loop={"batch_size": 2, "steps": 30})
    loop = told_loop(run)
    one = loop.source.batch(0, range(2), 2)
    object.__setattr__(loop.source, "batch", lambda step, rows, size: one)
    curve = losses(loop, 30)
    assert min(curve[-5:]) < 0.5 * curve[0], curve


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_sample(tiny_run, told_loop, broken):
    loop = told_loop(tiny_run(loop={"train_unet": False, "micro_batch": 2}), kind=broken)
    done = iter(loop.steps(0, 4, never))
    next(done), next(done)
    before, state = weights(loop), copy.deepcopy(loop.optimiser.state())
    key = loop.source.batch(2, range(2, 3), 3).keys[0]
    with pytest.raises(NonFiniteError, match=rf"^step 3: loss diffusion is nan: samples {key}; the step was not"):
        next(done)
    assert torch.equal(weights(loop), before)
    assert all(torch.equal(value, loop.optimiser.state()[name]) for name, value in state.items())


@pytest.fixture
def steep(told):
    class Steep(told):
        """One sample's loss is finite and has an infinite gradient."""

        def losses(self, step):
            terms = super().losses(step)
            bad = torch.tensor([index == 4 for index in step.batch.indices])
            zero = (self.to_tokens.weight.sum() * 0).expand(len(bad))
            return {**terms, "steep": Term(torch.where(bad, zero, zero + 1).sqrt(), 0.1)}

    return Steep


def test_a_gradient_that_is_not_finite_stops_before_the_step_and_names_the_sample(tiny_run, told_loop, steep):
    loop = told_loop(tiny_run(loop={"train_unet": False}), adapter=steep)
    done = iter(loop.steps(0, 2, never))
    assert next(done).losses.keys() == {"loss", "diffusion", "steep"}
    before = weights(loop)
    key = loop.source.batch(1, range(1, 2), 3).keys[0]
    with pytest.raises(NonFiniteError, match=rf"^step 2: the gradient's norm is (nan|inf): samples {key};"):
        next(done)
    assert torch.equal(weights(loop), before)


def test_the_total_is_the_weighted_sum_of_the_parts(tiny_run, told_loop, steep):
    loop = told_loop(tiny_run(loop={"train_unet": False}), adapter=steep)
    record = next(loop.steps(0, 1, never))
    assert record.losses["steep"] == 1.0
    assert record.losses["loss"] == pytest.approx(record.losses["diffusion"] + 0.1, abs=1e-6)


def test_gradients_are_clipped_to_the_norm(tiny_run, told_loop):
    run = tiny_run(loop={"train_unet": False}, optim={"max_grad_norm": 0.001})
    loop = told_loop(run)
    record = next(loop.steps(0, 1, never))
    assert record.grad_norm > 0.001
    assert torch.linalg.vector_norm(loop.trained.gradients) == pytest.approx(0.001, rel=1e-4)


def test_a_parameter_no_sample_used_stays_where_it_is(tiny_run, told_loop):
    run = tiny_run(
        loop={"train_unet": False}, data={"drop": {"text": 0, "identity": 1, "both": 0}}, optim={"weight_decay": 0}
    )
    loop = told_loop(run)
    before = weights(loop)
    record = next(loop.steps(0, 1, never))
    assert record.grad_norm == 0
    assert torch.equal(weights(loop), before)
