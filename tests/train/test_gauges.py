"""The gauges say what they claim, on methods whose answer is known."""

import dataclasses

import pytest
import torch

from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.bolid import Bolid
from train.adapters.settings import BolidLatentSettings, BolidSettings
from train.base_models import load_base
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.gauges import Gauges, between_runs, collapse, interval, sample_losses, with_other_part


@pytest.fixture
def gauges_of(tiny_run, told_loop):
    def make(**options):
        loop = told_loop(tiny_run(loop={"train_unet": False}), **options)
        return Gauges(loop.base, loop.adapter, loop.source, loop.draws, 6, "fp32"), loop

    return make


def test_collapse_is_the_mean_cosine_of_different_people():
    vectors = torch.tensor([[1.0, 0], [2, 0], [0, 3], [1, 1]])
    names = ["a", "a", "b", "c"]
    pairs = [0, 0.5**0.5, 0, 0.5**0.5, 0.5**0.5]  # a-b, a-c, a-b, a-c, b-c: the pair of a's does not count
    assert collapse(vectors, names) == pytest.approx(sum(pairs) / 5, abs=1e-6)
    assert collapse(torch.ones(4, 2), names) == pytest.approx(1, abs=1e-6)


def test_collapse_says_nothing_of_one_person_or_of_no_embedding():
    assert collapse(torch.ones(3, 2), ["a"] * 3) is None
    assert collapse(torch.zeros(3, 2), ["a", "b", "c"]) is None


def test_the_interval_is_of_the_mean_over_people():
    values = torch.tensor([0.0, 1.0] * 50)
    names = [str(number) for number in range(100)]
    got = interval("gap", values, names, Draws(0))
    assert got["gap"] == 0.5
    assert got["gap_low"] == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert got["gap_high"] == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)
    same = {"gap": 0.25, "gap_low": 0.25, "gap_high": 0.25}
    assert interval("gap", torch.full((9,), 0.25), names[:9], Draws(0)) == same
    assert interval("gap", None, names, Draws(0)) == {"gap": None, "gap_low": None, "gap_high": None}


def test_samples_of_one_person_count_together():
    """Ten copies of a sample tell no more than the sample; all of one person, samples are all there is."""
    values, names = torch.tensor([0.0, 1.0] * 8), [str(number) for number in range(16)]
    once = interval("gap", values, names, Draws(0))
    copied = interval("gap", values.repeat(10), names * 10, Draws(0))
    assert copied == pytest.approx(once)
    alone = interval("gap", values, ["a"] * 16, Draws(0))
    assert alone == once


def test_two_measurements_of_the_same_weights_are_the_same(gauges_of):
    gauges, _ = gauges_of()
    assert gauges.measure() == gauges.measure()


def test_a_method_that_ignores_the_references_has_no_gap(gauges_of):
    gauges, loop = gauges_of()
    with torch.no_grad():
        for layer in loop.adapter.layers:
            layer.streams["identity"].to_v.weight.zero_()
    assert gauges.measure()["swap_gap"] == 0


def test_the_gap_is_positive_where_the_right_references_help(gauges_of, monkeypatch, told):
    """An oracle: it predicts the noise the better, the nearer the references are to the target's person."""
    gauges, loop = gauges_of()
    truth = loop.source.held_out(6)
    right = loop.adapter.identity_embeddings(truth)

    def diffusion(step, conditions):
        return (step.batch.references.clip.pooled[:, 0] - truth.references.clip.pooled[:, 0]).square().mean(1)

    monkeypatch.setattr("train.step.Step.diffusion", diffusion)
    values = gauges.measure()
    assert right.shape == (6, loop.base.clip.pooled_width)
    assert 0 < values["swap_gap_low"] < values["swap_gap"] < values["swap_gap_high"]
    assert values["swap_gap_general"] == 0


def test_training_on_patterns_opens_the_gap(tiny_run, told_loop):
    run = tiny_run(
        optim={"lr": 2e-3}, loop={"batch_size": 8, "steps": 30}, data={"drop": {"text": 0, "identity": 0, "both": 0}}
    )
    loop = told_loop(run, identities=2)
    gauges = Gauges(loop.base, loop.adapter, loop.source, loop.draws, 8, "fp32")
    before = gauges.measure()
    for _ in loop.steps(0, 30, lambda: False):
        pass
    after = gauges.measure()
    assert after["loss"] < before["loss"]
    assert after["swap_gap_low"] > 0, after
    assert after["swap_gap"] > 4 * abs(before["swap_gap"]), (before, after)


def test_a_measurement_leaves_weights_gradients_and_mode_alone(gauges_of):
    gauges, loop = gauges_of()
    loop.adapter.train()
    loop.trained.gradients.fill_(1)
    before = [p.clone() for p in loop.trained.names.values()]
    gauges.measure()
    assert loop.adapter.training
    assert bool((loop.trained.gradients == 1).all())
    assert all(torch.equal(p, b) for p, b in zip(loop.trained.names.values(), before, strict=True))


def test_only_the_one_part_is_another_samples(gauges_of):
    _, loop = gauges_of()
    batch = loop.source.held_out(4)
    other = with_other_part(batch, "general")
    assert all(a != b for a, b in zip(other.prompts.general, batch.prompts.general, strict=True))
    assert sorted(set(other.prompts.general)) <= sorted(set(batch.prompts.general))
    assert other.prompts.background == batch.prompts.background
    hidden = loop.base.text.encode(other.prompts.general).hidden
    assert torch.allclose(other.prompts.states["general"].hidden, hidden, atol=1e-5)
    assert other.references is batch.references


def test_a_part_that_reads_the_same_everywhere_has_no_other(gauges_of):
    _, loop = gauges_of()
    batch = loop.source.held_out(3)
    same = dataclasses.replace(batch.prompts, body=("standing",) * 3)
    assert with_other_part(batch.replace(prompts=same), "body") is None


def test_bodies_and_poses_have_gaps_of_their_own():
    """Of an adapter that reads one of them only, the other's gap is exactly 0."""
    base = load_base(BaseConfig(), clip=True, face=True)
    adapter = load_adapter(BolidSettings(depth=1), base)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    source = Synthetic(base, Bolid.needs(adapter.settings), Draws(0), 32)
    values = Gauges(base, adapter, source, Draws(0), 4, "fp32").measure()
    assert {"swap_gap", "swap_gap_look", "swap_gap_look_low", "swap_gap_pose", "swap_gap_pose_high"} <= values.keys()
    assert values["swap_gap_look"] != 0
    assert values["swap_gap_pose"] != 0
    with torch.no_grad():
        adapter.body_proj.norm_out.weight.zero_()  # the look says the same whatever is seen
    blind = Gauges(base, adapter, source, Draws(0), 4, "fp32").measure()
    assert blind["swap_gap_look"] == 0
    assert blind["swap_gap_pose"] != 0


def test_a_pose_that_is_no_condition_has_no_gap():
    base = load_base(BaseConfig(), clip=True)
    adapter = load_adapter(BolidLatentSettings(), base)
    source = Synthetic(base, type(adapter).needs(adapter.settings), Draws(0), 32)
    values = Gauges(base, adapter, source, Draws(0), 2, "fp32").measure()
    assert "swap_gap_look" in values
    assert "swap_gap_pose" not in values


def test_between_runs_others_minus_own_on_the_same_sample():
    """Of three runs; the second sample is the first person's too."""
    losses = {"a": [1.0, 2.0, 9.0], "b": [4.0, 2.5, 5.0], "c": [2.0, 3.5, 8.0]}
    gaps = between_runs({who: torch.tensor(row) for who, row in losses.items()}, ["a", "a", "b"])
    assert gaps.tolist() == [3.0 - 1, 3.0 - 2, 8.5 - 5]
    with pytest.raises(AssertionError, match="without a run"):
        between_runs({who: torch.tensor(row) for who, row in losses.items()}, ["a", "a", "d"])


def test_runs_that_are_the_same_have_no_gap_and_losses_are_the_gauges(gauges_of):
    gauges, loop = gauges_of()
    batch = loop.source.held_out(6)
    losses = sample_losses(loop.base, loop.adapter, batch, loop.draws)
    assert losses.shape == (6,)
    assert float(losses.mean()) == gauges.measure()["loss"]
    assert not between_runs(dict.fromkeys(batch.identities, losses), batch.identities).any()
