"""Where numbers go: metrics.jsonl and TensorBoard always, Weights & Biases where it is asked for. One writer.

Knows names and numbers, not what they mean.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from crawl.errors import InputError
from crawl.output import Output

FILE = "metrics.jsonl"
Values = Mapping[str, float | None]


class Log:
    """Lines after `step` are of a run that died before its next checkpoint: they are taken out first."""

    def __init__(self, folder: Path, step: int, wandb_project: str | None = None, config: object = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        lines = [line for line in read_metrics(folder) if line["step"] <= step]
        Output(str(folder)).write(FILE, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
        self._file = (folder / FILE).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._wandb = _wandb(wandb_project, folder, config)

    def write(self, step: int, values: Values) -> None:
        """One line; None is null in the file, and nothing elsewhere."""
        self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()
        numbers = {name: value for name, value in values.items() if value is not None}
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=int(error is not None))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All complete lines of a run's metrics; the last may be half-written."""
    path = folder / FILE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _wandb(project: str | None, folder: Path, config: object) -> Any:
    if project is None:
        return None
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise InputError("loop.wandb_project: `wandb` is not installed") from None
    return wandb.init(project=project, name=folder.name, dir=str(folder), config=config, resume="allow")
