"""Checkpoints: folders of safetensors and one JSON, complete under their final name or not there at all.

    OUTPUT/checkpoints/step-00000500/weights.safetensors    all weights the run changes (train.weights)
                                    /ema.safetensors        running means, where the run keeps them
                                    /optimizer.safetensors
                                    /checkpoint.json        step, run, data digest, sha256 of the files

Written aside, fsynced, renamed; every file's sha256 is checked when it is read. Knows nothing of the loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from crawl.errors import InputError
from crawl.settings import Settings
from train.config import TrainRun

if TYPE_CHECKING:
    from train.adapters.adapter import Adapter
    from train.base_models import Base
    from train.weights import Weights

FOLDER = "checkpoints"
META = "checkpoint.json"
_STEP = "step-"
_ASIDE = ".aside-"


class Meta(Settings):
    """What a checkpoint says of itself."""

    step: int = Field(ge=0, description="Optimiser steps done.")
    run: TrainRun
    data: str = Field(description="Digest of the data trained on.")
    window: tuple[dict[str, float], ...] = Field((), description="Losses of the steps since the last log line.")
    made_with: dict[str, str] = Field({}, description="Versions of what the numbers depend on.")
    files: dict[str, str] = Field({}, description="Name → sha256.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint whose files are as they were written."""

    folder: Path
    meta: Meta

    def tensors(self, name: str) -> dict[str, Tensor]:
        """`weights`, `optimizer` or `ema` on the CPU; {} where there is none."""
        file = f"{name}.safetensors"
        return load_file(self.folder / file) if file in self.meta.files else {}

    def weights(self, mean: bool = True) -> Weights:
        """The run's weights; with `mean`, their running means where the run keeps them."""
        return {**self.tensors("weights"), **(self.tensors("ema") if mean else {})}


def save(output: Path, meta: Meta, tensors: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """Write a checkpoint. A crash at any moment leaves those that were there, and no half of this one."""
    folder = output / FOLDER / step_name(meta.step)
    aside = folder.parent / f"{_ASIDE}{folder.name}-{os.getpid()}"
    try:
        aside.mkdir(parents=True)
        about = {"format": "pt", "personae": json.dumps({"step": meta.step, "data": meta.data})}
        for name, state in tensors.items():
            there = {key: value.detach().cpu().contiguous() for key, value in state.items()}
            save_file(there, aside / f"{name}.safetensors", about)
        files = {file.name: _sha256(file) for file in sorted(aside.iterdir())}
        text = json.dumps(meta.model_copy(update={"files": files}).model_dump(mode="json"), indent=1, allow_nan=False)
        (aside / META).write_text(text)
        for path in (*sorted(aside.iterdir()), aside):
            _fsync(path)
        _set_aside(folder)  # one of this step that was found damaged
        aside.rename(folder)
        _fsync(folder.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error
    return folder


def step_name(step: int) -> str:
    """Of a checkpoint's folder."""
    return f"{_STEP}{step:08d}"


def folders(output: Path) -> list[Path]:
    """Of this run's checkpoints, oldest first."""
    return sorted((output / FOLDER).glob(f"{_STEP}*"))


def prune(output: Path, keep: int) -> None:
    """Remove all but the `keep` latest checkpoints, and what crashed writers left behind."""
    for folder in folders(output)[:-keep]:
        _set_aside(folder)
    for aside in (output / FOLDER).glob(f"{_ASIDE}*"):
        shutil.rmtree(aside)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Raises InputError naming the file that is missing, damaged or not ours."""
    try:
        meta = Meta.model_validate_json((folder / META).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder}: no checkpoint here ({META} is missing)") from None
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder / META}: not a checkpoint of this version: {str(error).splitlines()[0]}") from None
    for name, sha256 in meta.files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: is missing")
        if _sha256(path) != sha256:
            raise InputError(f"{path}: damaged: its sha256 is not the one in {META}")
    return Checkpoint(folder, meta)


def latest(output: Path) -> tuple[Checkpoint | None, list[str]]:
    """The valid checkpoint of most steps, and why later ones are not. Raises InputError when all are damaged."""
    problems: list[str] = []
    for folder in reversed(folders(output)):
        try:
            return open_checkpoint(folder), problems
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(f"{output}: no checkpoint can be read: {problems[0]}")
    return None, []


def find(path: str) -> Checkpoint:
    """A checkpoint folder, or the latest of a run folder. Raises InputError."""
    folder = Path(path)
    if not (folder / FOLDER).is_dir():
        return open_checkpoint(folder)
    found, _ = latest(folder)
    if found is None:
        raise InputError(f"{path}: no checkpoint yet")
    return found


def load_run(path: str) -> tuple[TrainRun, Base, Adapter, dict[str, Any]]:
    """A run folder or a checkpoint → its run, base and adapter with the trained weights, in eval mode; metadata.

    Running means where the run keeps them. Metadata: step, data digest, versions. Raises InputError.
    """
    from train.model import build

    found = find(path)
    base, adapter = build(found.meta.run, weights=found.weights(), source=str(found.folder))
    about = {"step": found.meta.step, "data": found.meta.data, "made_with": found.meta.made_with}
    return found.meta.run, base, adapter.eval(), about


def _set_aside(folder: Path) -> None:
    """Before it is removed: there is never half of one under a final name."""
    if folder.exists():
        folder.rename(folder.with_name(f"{_ASIDE}old-{folder.name}-{os.getpid()}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
