"""One export: weights to bytes, loaded back and compared, and only then put in their place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl.errors import InputError
from crawl.output import Output
from train.adapters.adapter import Adapter
from train.adapters.published import read_weights
from train.config import TrainRun
from train.export.check import check_exportable
from train.export.comfyui import recognise
from train.export.files import SUFFIXES, content
from train.export.metadata import metadata
from train.export.reload import greatest_difference

LIMIT = 1e-5
"""Greatest difference of the UNet's output; float32 rounding is about 1e-6."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how it was checked."""

    path: str
    weights: int
    difference: float
    taken_for: str | None
    """What ComfyUI takes the file for."""


def default_name(kind: str, format: str) -> str:
    """PhotoMaker's own loader is published with a `.bin`; all others read safetensors, which hold metadata too."""
    return f"{kind}-{format}{'.bin' if format == 'photomaker' else '.safetensors'}"


def check_name(out: str, format: str) -> None:
    """Raises InputError unless the file's name says what it will be."""
    if Path(out).suffix not in (SUFFIXES if format not in ("native", "pulid") else SUFFIXES[:1]):
        only = f"native and pulid in {SUFFIXES[0]}"
        raise InputError(f"--out: {out}: expected a name ending in {' or '.join(SUFFIXES)}, {only}")


def write(run: TrainRun, adapter: Adapter, about: Mapping[str, Any], format: str, out: str) -> Exported:
    """Raises InputError when the format can't hold these weights or what comes back differs; no file is left then."""
    check_exportable(run, format)
    check_name(out, format)
    tensors, says = adapter.export(format), metadata(run, about, format)
    file = content(Path(out).suffix, tensors, says)
    with tempfile.TemporaryDirectory() as aside:
        path = os.path.join(aside, Path(out).name)
        Path(path).write_bytes(file)
        try:
            taken_for = _taken_for(path) if format == "comfyui" else None
            difference = greatest_difference(adapter, path, format)
        except InputError as error:
            raise InputError(str(error).replace(path, out)) from None
    if not difference <= LIMIT:
        raise InputError(f"{out}: not written: loaded back as {format} the UNet's output differs by {difference:.1e}")
    folder = Output(str(Path(out).parent))
    folder.write(Path(out).name, file)
    if out.endswith(".bin"):  # it has no header
        folder.write(f"{Path(out).name}.json", json.dumps(says, indent=1, sort_keys=True).encode())
    return Exported(out, sum(value.numel() for value in tensors.values()), difference, taken_for)


def _taken_for(path: str) -> str:
    found = recognise(read_weights(path), path)
    return f"{found.kind} with {found.tokens} tokens on {found.base}"
