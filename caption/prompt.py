"""Prompts: text files with a version in their name, kept in `caption/prompts/`, or one of the user's own.

A file holds parts under headings in brackets: `[system]`, one `[ask]` a turn (the last is answered in JSON), and
`[again]`, said when an answer is not valid, with `$faults` where the errors go. Lines that begin with `#` are left out.
Knows no model.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from crawl.errors import InputError

FAULTS = "$faults"
_HEADING = re.compile(r"^\[(\w+)\]$")
_VERSIONED = re.compile(r"([a-z]+)-(\d+)\.txt")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to say to a model, turn by turn."""

    version: str
    """Name, number and hash of the text: `thesis-1#0a1b2c3d`."""
    system: str
    asks: tuple[str, ...]
    again: str

    def again_with(self, faults: list[str]) -> str:
        return self.again.replace(FAULTS, "\n".join(f"- {fault}" for fault in faults))


def load_prompt(name: str) -> Prompt:
    """A shipped prompt (`thesis` is the newest `thesis-N`) or a file. Raises InputError."""
    return _load(name)


@functools.cache
def _load(name: str) -> Prompt:
    label, text = _text(name)
    parts = _parts(text)
    headings = [heading for heading, _ in parts]
    wrong = next((h for h in headings if h not in ("system", "ask", "again")), None)
    where = f"caption.prompt: {name}"
    if wrong is not None:
        raise InputError(f"{where}: unknown heading [{wrong}]: expected [system], [ask], [again]")
    if headings.count("ask") < 1 or headings.count("again") != 1 or headings.count("system") > 1:
        raise InputError(f"{where}: expected one [ask] or more, one [again], and at most one [system]")
    told = dict(parts)
    if FAULTS not in told["again"]:
        raise InputError(f"{where}: [again] does not hold {FAULTS}, where the errors go")
    if empty := next((heading for heading, body in parts if not body), None):
        raise InputError(f"{where}: [{empty}] is empty")
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    asks = tuple(body for heading, body in parts if heading == "ask")
    return Prompt(f"{label}#{digest}", told.get("system", ""), asks, told["again"])


def shipped() -> list[str]:
    """Names of the prompts in the package, each family's newest last."""
    names = (_VERSIONED.fullmatch(file.name) for file in _folder().iterdir())
    return [f"{n[1]}-{n[2]}" for n in sorted((n for n in names if n), key=lambda n: (n[1], int(n[2])))]


def _text(name: str) -> tuple[str, str]:
    """(label, text)."""
    family = [version for version in shipped() if name in (version, version.rsplit("-", 1)[0])]
    if family:
        return family[-1], (_folder() / f"{family[-1]}.txt").read_text(encoding="utf-8")
    path = Path(name)
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(shipped())
        raise InputError(f"caption.prompt: {name}: no such file, and no such prompt (there are {known})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"caption.prompt: {name}: cannot be read: {error}") from None


def _parts(text: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if heading := _HEADING.match(line.strip()):
            parts.append((heading[1], []))
        elif not line.startswith("#"):
            if parts:
                parts[-1][1].append(line)
            elif line.strip():
                raise InputError("caption.prompt: text before the first heading in brackets")
    return [(heading, "\n".join(lines).strip()) for heading, lines in parts]


def _folder() -> Traversable:
    return resources.files("caption") / "prompts"
