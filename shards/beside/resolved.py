"""`config.resolved.yaml`: the settings a dataset was built with, every default spelled out, beside its shards.

Reading it back makes a dataset folder enough for its card, without the run file it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from crawl.config import apply, dump, validated
from crawl.errors import InputError
from crawl.output import Output
from shards.config import BuildRun
from shards.format.index import FORMAT

RESOLVED = "config.resolved.yaml"


def write_resolved(run: BuildRun, output: Output) -> None:
    output.write(RESOLVED, f"format: {FORMAT}\n{dump(run)}".encode())


def read_resolved(output: Output, overrides: Sequence[str] = ()) -> BuildRun:
    """With `key=value` overrides. Raises InputError when there is none, or one that this version does not know."""
    path = output.path(RESOLVED)
    document = _document(output, path)
    found = document.pop("format", None)
    if found != FORMAT:
        raise InputError(f"{path}: format {found}, this version of Personae reads format {FORMAT}")
    for override in overrides:
        apply(document, override)
    return validated(BuildRun, document, path)


def _document(output: Output, path: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(output.read(RESOLVED))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: not found: no dataset there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: not the settings of a build")
    return document
