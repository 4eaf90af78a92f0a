"""How a model of the Hugging Face hub, or of a folder, is named in rows. Loads none."""

from __future__ import annotations

import hashlib
from pathlib import Path

from filter.weights import sha256_of

CONFIG_AND_WEIGHTS = ("config.json", "preprocessor_config.json", "*.safetensors", "*.bin")


def version(model: str, revision: str) -> str:
    """NAME@REVISION; of a local folder its own name, never the path, and a hash of what is in it."""
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision}"
    files = sorted(path for pattern in CONFIG_AND_WEIGHTS for path in folder.glob(pattern))
    content = " ".join(f"{path.name} {sha256_of(path)}" for path in files)
    return f"{folder.resolve().name}@{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def where(model: str) -> str:
    """Its page, for a line on its licence; "" for a folder."""
    return "" if Path(model).is_dir() else f" (huggingface.co/{model})"
