"""The version of a dataset: what its card says, and the tag it is published under.

`publish.version` of the run file, its last number raised by one for every takedown since. A published copy has the sum
in its settings.
"""

from __future__ import annotations

import json

from crawl.errors import InputError
from crawl.output import Output
from shards.config import BuildRun

TOMBSTONES = "tombstones.json"
"""What was taken down; its `version` counts from 1, one more for every takedown."""


def dataset_version(run: BuildRun, output: Output) -> str:
    """MAJOR.MINOR.PATCH. Raises InputError for a broken `tombstones.json`."""
    major, minor, patch = map(int, run.publish.version.split("."))
    return f"{major}.{minor}.{patch + _takedowns(output)}"


def _takedowns(output: Output) -> int:
    if not output.exists(TOMBSTONES):
        return 0
    try:
        return max(0, int(json.loads(output.read(TOMBSTONES))["version"]) - 1)
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{output.path(TOMBSTONES)}: broken: it has no version") from None
