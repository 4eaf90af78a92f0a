"""Whether a run file may go on where an earlier one stopped: what may differ, and what changes the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crawl.errors import InputError
from train.checkpoint import Checkpoint
from train.config import TrainRun

FREE = frozenset(
    {
        "about", "output", "export", "samples", "evaluate", "init_from", "data.dataset", "data.features",
        "data.on_bad_shard", "data.prefetch", "loop.micro_batch", "loop.log_every", "loop.save_every",
        "loop.keep_checkpoints", "loop.gauges_every", "loop.gauge_samples", "loop.gradient_checkpointing",
        "loop.channels_last", "loop.compile", "loop.wandb_project",
    }
)  # fmt: skip
"""Fields, or sections, that change neither the steps' meaning nor their result beyond rounding."""


def refuse_another(checkpoint: Checkpoint, run: TrainRun) -> None:
    """Raises InputError naming the first field that makes it another run than the checkpoint's."""
    before, now = dict(_fields(checkpoint.meta.run)), dict(_fields(run))
    free = FREE if run.optim.schedule != "constant" else FREE | {"loop.steps"}  # more steps of a constant rate
    for key in [*now, *(before.keys() - now.keys())]:
        if before.get(key) != now.get(key) and not any(key == f or key.startswith(f"{f}.") for f in free):
            raise InputError(
                f"{key}: is {now.get(key)}, and was {before.get(key)} when the checkpoints in {run.output} were made: "
                "change it back, or name another output"
            )


def refuse_other_data(checkpoint: Checkpoint, digest: str, run: TrainRun) -> None:
    """Raises InputError when the data is not that of the checkpoint."""
    if checkpoint.meta.data != digest:
        raise InputError(
            f"data.dataset: {run.data.dataset}: not the data of the run whose checkpoints are in {run.output} "
            f"(digest {digest[:12]}, was {checkpoint.meta.data[:12]}): name another output"
        )


def _fields(run: TrainRun) -> Iterator[tuple[str, Any]]:
    def walk(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            yield prefix, value

    return walk("", run.model_dump(mode="json"))
