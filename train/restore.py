"""Trained weights back in place: from a run's folder, one of its checkpoints, or a file that was exported.

Knows nothing of what is done with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from crawl.config import validated
from crawl.errors import InputError
from train.adapters.adapter import Adapter
from train.adapters.published import load_into, read_weights
from train.base_models import Base
from train.checkpoint import load_run
from train.config import TrainRun
from train.model import build
from train.registry import load


def restore(weights: str, config: str | None = None) -> tuple[TrainRun, Base, Adapter]:
    """`config`: the run file of an exported file that names none, or whose base lies elsewhere now.

    In eval mode, on the CPU. Raises InputError naming file and field.
    """
    if Path(weights).is_dir():
        if config is not None:
            raise InputError(f"--config: {weights} is a run, which has its own")
        run, base, adapter, _ = load_run(weights)
        return run, base, adapter
    if not Path(weights).is_file():
        raise InputError(f"{weights}: no such run, checkpoint or file")
    header = read_header(weights)
    run = run_of(weights, header) if config is None else load(config, [])
    base, adapter = build(run.model_copy(update={"adapter": run.adapter.model_copy(update={"weights": None})}))
    if header.get("personae.format") == "native":
        load_into(adapter, read_weights(weights), weights)
    else:
        adapter.load_weights(weights)
    return run, base, adapter.eval()


def read_header(path: str) -> dict[str, str]:
    """Metadata of a .safetensors file; of another the JSON beside it; {} without."""
    try:
        if path.endswith(".safetensors"):
            with safe_open(path, "pt") as file:
                return dict(file.metadata() or {})
        beside: dict[str, str] = json.loads(Path(f"{path}.json").read_bytes())
        return beside
    except FileNotFoundError:
        return {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a weights file: {' '.join(str(error).split())[:200]}") from None


def run_of(path: str, header: dict[str, str]) -> TrainRun:
    """The run file in an exported file's header. Raises InputError when it names none."""
    if "personae.config" not in header:
        raise InputError(f"{path}: names no run file: say --config RUN.yaml")
    document: Any = json.loads(header["personae.config"])
    return validated(TrainRun, document, path)
