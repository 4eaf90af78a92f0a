"""The systems of `benchmarks.learn` that know one person a run: a base without identity, then a run for everybody.

Their swap gap is between runs: a person's held-out photos under the runs of other people and under their own, with
the noise and timesteps of the other systems' gauges on the same photos. The base's steps and all people's together
are the steps of the system.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

from benchmarks.learn_systems import PEOPLE_SHARE, person_settings, settings

SAMPLES = 56
"""Held-out samples, as of the other systems' gauges."""


def key(name: str, steps: int) -> dict[str, Any]:
    """What the numbers of such a system depend on; how many people there are, the dataset says."""
    base = settings({"kind": "none"}, "dataset", "base", steps)
    return {"base": base, "person": person_settings(name, "who", "dataset", "run", "base", steps), "all": PEOPLE_SHARE}


def learn_people(name: str, dataset: str, folder: Path, steps: int) -> tuple[list[dict[str, Any]], float]:
    """Train them all, in `folder`; lines as of a log of gauges, and CPU minutes, the base's among them.

    Two of them: at the base's last step all runs are the same one, and the gap is 0.
    """
    from shards.read import Dataset

    people = sorted(Dataset(dataset).index.identities)
    each = round(PEOPLE_SHARE * steps / len(people))
    begun = steps - each * len(people)
    minutes = _trained_base(dataset, str(folder / f"base-{begun}"), begun)
    began = time.process_time()
    runs = {who: _trained(name, who, dataset, folder, begun, each) for who in people}
    nothing = {f"gauge/swap_gap{end}": 0.0 for end in ("", "_low", "_high")}
    lines = [{"step": begun, "gauge/loss": None, "gauge/collapse": None, **nothing}]
    lines.append({"step": steps, **measure(runs, dataset)})
    return lines, minutes + (time.process_time() - began) / 60


@functools.cache
def _trained_base(dataset: str, output: str, steps: int) -> float:
    """The base that all such systems begin with, trained with text alone: once. CPU minutes."""
    from train.config import TrainRun
    from train.run import train

    began = time.process_time()
    if train(TrainRun.model_validate(settings({"kind": "none"}, dataset, output, steps))):
        raise SystemExit("training the base ended early")
    return (time.process_time() - began) / 60


def _trained(name: str, who: str, dataset: str, folder: Path, begun: int, steps: int) -> str:
    from train.config import TrainRun
    from train.run import train

    output = str(folder / name / who)
    run = person_settings(name, who, dataset, output, str(folder / f"base-{begun}"), steps)
    if train(TrainRun.model_validate(run)):
        raise SystemExit("training ended early")
    return output


def measure(runs: dict[str, str], dataset: str, samples: int = SAMPLES) -> dict[str, Any]:
    """Gauges of a run, or a checkpoint, for each person: loss of their own, gap to those of others, its interval."""
    from train.checkpoint import load_run
    from train.data.dataset import TrainData
    from train.data.draws import Draws
    from train.gauges import between_runs, interval, sample_losses

    losses, draws = {}, Draws(0)
    for who, path in runs.items():
        run, base, adapter, _ = load_run(path)
        everybody = run.data.model_copy(update={"dataset": dataset, "identities": ()})
        source = TrainData(everybody, type(adapter).needs(adapter.settings), base, draws)
        batch = source.held_out(samples)
        losses[who] = sample_losses(base, adapter, batch, draws)
    own = [float(losses[who][row]) for row, who in enumerate(batch.identities)]
    gaps = interval("swap_gap", between_runs(losses, batch.identities), batch.identities, draws)
    return {"gauge/loss": sum(own) / len(own), "gauge/collapse": None, **{f"gauge/{k}": v for k, v in gaps.items()}}
