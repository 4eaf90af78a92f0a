"""Identity-signal gauges on held-out samples: does the adapter tell people apart, and does the UNet listen?

*Collapse* is the mean cosine of identity embeddings of different people (→ 1: all faces are the same to it). A
*swap gap* is the loss with another person's references, or another photo's prompt part, minus the loss with the
right ones, on the same noise (0: ignored). Draws are fixed, so that two measurements differ by the weights only.
Its interval is over people: photos of one person are alike, and count together. A method that is trained for one
person has no references to swap: its runs are (`between_runs`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shards.encoders.text import TextStates
from train.adapters.adapter import Adapter
from train.base_models import Base
from train.data.batch import PARTS, Batch, Drop
from train.data.draws import Draws
from train.data.source import BatchSource
from train.device import autocast
from train.step import Step, step_at

TIMESTEPS = 4
"""Timesteps a sample, one from each equal part of the schedule."""
_RESAMPLES = 1000


class Gauges:
    """Measured on always the same samples and draws."""

    def __init__(
        self, base: Base, adapter: Adapter, source: BatchSource, draws: Draws, samples: int, precision: str
    ) -> None:
        self._base, self._adapter, self._draws, self._precision = base, adapter, draws, precision
        needs = type(adapter).needs(adapter.settings)
        held_out = source.held_out(samples)
        self._right = _all_conditions(held_out).to(base.device)
        people = len(set(held_out.identities))
        swapped = source.swapped(held_out) if needs.references and people > 1 else None
        self._others = {
            "swap_gap": swapped,
            **({"swap_gap_look": swapped and with_other_bodies(held_out, swapped)} if needs.bodies else {}),
            **({"swap_gap_pose": with_other_pose(held_out)} if needs.pose else {}),
            **{f"swap_gap_{p}": with_other_part(held_out, p) for p in PARTS if p in {*needs.text, *needs.parts}},
        }

    @torch.no_grad()
    def measure(self) -> dict[str, float | None]:
        """`loss`, `collapse`, `swap_gap` with its 95 % interval `_low`, `_high`; the same for each prompt part in use.

        Also for the look of the body alone and for the pose, where the adapter has them. None where it says nothing:
        no references, one person only, all captions alike.
        """
        training = self._adapter.training
        self._adapter.eval()
        with autocast(self._base.device, self._precision):
            right = self._losses(self._right)
            values: dict[str, float | None] = {"loss": float(right.mean()), "collapse": self._collapse()}
            for name, other in self._others.items():
                gaps = None if other is None else self._losses(_all_conditions(other).to(self._base.device)) - right
                values |= interval(name, gaps, self._right.identities, self._draws)
        self._adapter.train(training)
        return values

    def _losses(self, batch: Batch) -> Tensor:
        return sample_losses(self._base, self._adapter, batch, self._draws)

    def _collapse(self) -> float | None:
        return collapse(self._adapter.identity_embeddings(self._right), self._right.identities)


@torch.no_grad()
def sample_losses(base: Base, adapter: Adapter, batch: Batch, draws: Draws) -> Tensor:
    """Unweighted loss of each sample [B], mean over its timesteps; float32 on the CPU."""
    conditions = adapter.conditions(batch)
    steps = (_step(base, batch, draws, part) for part in range(TIMESTEPS))
    return torch.stack([step.diffusion(conditions).cpu() for step in steps]).mean(0)


def _step(base: Base, batch: Batch, draws: Draws, part: int) -> Step:
    """Noise and timesteps depend on the place in the batch and on `part`, never on what stands there."""
    places = range(len(batch))
    length = int(base.schedule.config.num_train_timesteps) // TIMESTEPS
    timesteps = part * length + draws.integers("gauge timestep", part, places, length)
    noise = draws.normal("gauge noise", part, places, batch.latents.shape[1:])
    return step_at(base, batch, draws, noise.to(base.device), timesteps.to(base.device))


def between_runs(losses: Mapping[str, Tensor], identities: Sequence[str]) -> Tensor:
    """Gap of each sample [B]: its mean loss under the runs of other people, minus that under its own person's run.

    `losses`: person → `sample_losses` [B] of the run that was trained for them; two people at least, all in there.
    """
    people = list(losses)
    table = torch.stack([losses[who] for who in people])
    own = torch.tensor([[who == person for person in identities] for who in people])
    assert len(people) > 1
    assert own.any(0).all(), "a sample of somebody without a run"
    return (table * ~own).sum(0) / (len(people) - 1) - (table * own).sum(0)


def collapse(embeddings: Tensor, identities: Sequence[str]) -> float | None:
    """Mean cosine of embeddings [B, D] over all pairs of different people; None for none, or for zero vectors."""
    unit = functional.normalize(embeddings.float(), dim=-1).cpu()
    names = np.array(identities)
    different = torch.from_numpy(names[:, None] != names[None])
    if not different.any() or not unit.any():
        return None
    return float((unit @ unit.T)[different].mean())


def interval(name: str, values: Tensor | None, identities: Sequence[str], draws: Draws) -> dict[str, float | None]:
    """Mean of `values` [B] and its 95 % percentile interval, bootstrapped over people (over samples of one alone).

    A person who is drawn brings all of their samples (cluster bootstrap: Davison and Hinkley 1997, section 3.8).
    """
    if values is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    sample = values.double().numpy()
    _, owners = np.unique(identities, return_inverse=True)
    clusters = owners if owners.any() else np.arange(len(sample))
    sums, counts = np.bincount(clusters, sample), np.bincount(clusters)
    drawn = draws.generator("bootstrap").integers(len(sums), size=(_RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return {name: float(sample.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}


def with_other_bodies(batch: Batch, swapped: Batch) -> Batch:
    """The bodies of `swapped`, everything else right; where it has fewer references, its first one's."""
    own, other = batch.references, swapped.references
    assert other.bodies is not None
    changes: dict[str, Tensor] = {"bodies": _filled(other.bodies, other.present)}
    if other.keypoints is not None:
        changes["keypoints"] = _filled(other.keypoints, other.present)
    return batch.replace(references=dataclasses.replace(own, **changes))  # type: ignore[arg-type]


def with_other_pose(batch: Batch) -> Batch | None:
    """Each sample with the keypoints of the next one; None when there is no other."""
    assert batch.keypoints is not None
    return None if len(batch) < 2 else batch.replace(keypoints=batch.keypoints.roll(1, 0))


def _filled(values: Tensor, present: Tensor) -> Tensor:
    """[B, N, …] with slot 0 in the slots that are absent."""
    return torch.where(present.view(*present.shape, *[1] * (values.ndim - 2)), values, values[:, :1])


def with_other_part(batch: Batch, part: str) -> Batch | None:
    """Each sample with this part of its prompt from the next sample where it reads differently; None if none does."""
    texts: tuple[str, ...] = getattr(batch.prompts, part)
    size = len(texts)
    other = [next((j % size for j in range(i + 1, i + size) if texts[j % size] != texts[i]), i) for i in range(size)]
    if other == list(range(size)):
        return None
    changes: dict[str, object] = {part: tuple(texts[j] for j in other)}
    if part == "general":
        changes["trigger_position"] = tuple(batch.prompts.trigger_position[j] for j in other)
    if part in batch.prompts.states:
        old = batch.prompts.states[part]
        new = TextStates(old.hidden[other], None if old.pooled is None else old.pooled[other])
        changes["states"] = {**batch.prompts.states, part: new}
    return batch.replace(prompts=dataclasses.replace(batch.prompts, **changes))  # type: ignore[arg-type]


def _all_conditions(batch: Batch) -> Batch:
    """Nothing dropped, the loss over the whole picture."""
    return batch.replace(drop=Drop.none(len(batch)), masked_loss=torch.zeros(len(batch), dtype=torch.bool))
