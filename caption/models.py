"""Which model is meant: its name for records, its licence, and what tells two local folders apart.

Loads nothing; cheap enough to be asked for each bucket.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from caption.config import DEFAULT_MODEL, CaptionConfig
from caption.replies import Speaker
from crawl.errors import InputError

LICENCES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": "Qwen Research License: non-commercial use only",
    "Qwen/Qwen2.5-VL-7B-Instruct": "Apache-2.0",
    "Qwen/Qwen2.5-VL-32B-Instruct": "Apache-2.0",
    "Qwen/Qwen2.5-VL-72B-Instruct": "Qwen License: free below 100 million monthly users",
}
"""Of the weights, as their publisher states them."""
_EDGE_BYTES = 65_536


def speaker(config: CaptionConfig) -> Speaker:
    """Who answers, and the parameters of generation: what a reply depends on besides what is said.

    The address of an endpoint is left out: the same model served elsewhere is the same model.
    """
    manner: dict[str, Any] = {"max_new_tokens": config.max_new_tokens, "temperature": config.temperature}
    if config.backend == "endpoint":
        manner |= {"parameters": config.endpoint.parameters}
    else:
        manner |= {"max_pixels": config.max_pixels}
    return Speaker(f"{config.backend}:{model_name(config)}", json.dumps(manner, sort_keys=True))


def model_name(config: CaptionConfig) -> str:
    """NAME@REVISION. Of a local folder its own name, never the path, and a digest of what is in it.

    Raises InputError when the digest is needed and there is no such folder.
    """
    name = config.model or DEFAULT_MODEL
    if config.backend == "endpoint":
        return f"{name}@{config.revision}" if config.revision else name
    folder = Path(name)
    if not (folder.is_dir() or name.startswith(("/", "./", "../"))):
        return f"{name}@{config.revision or 'main'}"
    if config.revision is None and not folder.is_dir():
        raise InputError(f"caption.model: {name}: no such folder")
    return f"{folder.resolve().name}@{config.revision or _digest(folder)}"


def licences(config: CaptionConfig) -> list[str]:
    """One line a model in use, to be shown once at start. Raises InputError for a folder that is not there."""
    if config.backend == "measured":
        return []
    if config.backend == "endpoint":
        return [f"captions by {model_name(config)}, asked over an API: its provider's terms apply"]
    known = LICENCES.get(config.model or DEFAULT_MODEL, "its terms are not known here, look at its card")
    return [f"captions by {model_name(config)}: {known}"]


def _digest(folder: Path) -> str:
    """Of the names, the sizes and both ends of every file: other weights have other bytes there."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return _digest_of(tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))


@functools.cache
def _digest_of(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, num_bytes, _ in files:
        digest.update(f"{Path(path).name} {num_bytes}\n".encode())
        with open(path, "rb") as file:
            digest.update(file.read(_EDGE_BYTES))
            file.seek(max(0, num_bytes - _EDGE_BYTES))
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()[:8]
