"""The version of a dataset: what its card says, and the tag it is published under.

`publish.version` of the run file, unless something that happened since (a removal) has raised it: then `version.txt`.
"""

from __future__ import annotations

from crawl.errors import InputError
from crawl.output import Output
from shards.config import BuildRun

FILE = "version.txt"


def dataset_version(run: BuildRun, output: Output) -> str:
    """MAJOR.MINOR.PATCH: the later of the run file's and the folder's. Raises InputError for a broken `version.txt`."""
    return max(run.publish.version, _raised(output) or "0.0.0", key=_numbers)


def bump_version(run: BuildRun, output: Output) -> str:
    """Raise PATCH by one, whatever raised it before; returns the new version."""
    major, minor, patch = _numbers(dataset_version(run, output))
    version = f"{major}.{minor}.{patch + 1}"
    output.write(FILE, f"{version}\n".encode())
    return version


def _raised(output: Output) -> str | None:
    if not output.exists(FILE):
        return None
    version = output.read(FILE).decode(errors="replace").strip()
    try:
        _numbers(version)
    except ValueError:
        raise InputError(f"{output.path(FILE)}: {version[:40]!r} is no MAJOR.MINOR.PATCH") from None
    return version


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch
