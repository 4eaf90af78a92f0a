"""The runs that are compared: each a name, what it was trained as, and weights that are loaded when they are wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl.errors import InputError
from filter.weights import sha256_of
from train.adapters import adapter_class
from train.adapters.adapter import Adapter, Needs
from train.base_models import Base
from train.checkpoint import find
from train.config import TrainRun
from train.evaluate.rows import LEVELS
from train.generate import to_gpu
from train.restore import read_header, restore, run_of

_STEP_FOLDER = "checkpoints"


@dataclass(frozen=True, slots=True)
class Method:
    """One run's weights."""

    name: str
    """Of the run's folder; unique among those compared, and no level's."""
    source: str
    run: TrainRun
    step: int | None
    digest: str
    """Of the weights' files and of the base they stand on: the same digest gives the same pictures."""

    @property
    def needs(self) -> Needs:
        return adapter_class(self.run.adapter.kind).needs(self.run.adapter)

    @property
    def listens_to(self) -> frozenset[str]:
        """Parts of the prompt."""
        return frozenset({*self.needs.text, *self.needs.parts})

    @property
    def trained_with(self) -> str | None:
        """The face embedder that this method was conditioned on: as a judge of it, it is not independent."""
        return self.run.base.face if self.needs.face else None

    def load(self) -> tuple[Base, Adapter]:
        """In eval mode, on the GPU where there is one."""
        _, base, adapter = restore(self.source)
        to_gpu(base, adapter)
        return base, adapter


def methods(sources: Sequence[str]) -> list[Method]:
    """No model is loaded. Raises InputError for what is no run, checkpoint or exported file."""
    found: list[Method] = []
    for source in sources:
        name, taken = _name(source), {*LEVELS, *(method.name for method in found)}
        unique = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(sources) + 2))) if n not in taken)
        found.append(_method(unique, source))
    return found


def _method(name: str, source: str) -> Method:
    if Path(source).is_dir():
        checkpoint = find(source)
        return Method(
            name, source, checkpoint.meta.run, checkpoint.meta.step, _digest(checkpoint.meta.run, checkpoint.meta.files)
        )
    if not Path(source).is_file():
        raise InputError(f"{source}: no such run, checkpoint or file")
    run = run_of(source, read_header(source))
    return Method(name, source, run, None, _digest(run, {"file": sha256_of(Path(source))}))


def _digest(run: TrainRun, files: object) -> str:
    text = json.dumps([run.base.model_dump(), run.adapter.model_dump(), files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _name(source: str) -> str:
    path = Path(source).resolve()
    if path.parent.name == _STEP_FOLDER:
        return f"{path.parents[1].name}-{path.name}"
    return path.name if path.is_dir() else path.stem
