"""Paths into a JSON document: `items[0].link`, names and numbers and nothing more.

Knows nothing of what a document means.
"""

from __future__ import annotations

import re
from typing import Any

_NAME = r"[^.\[\]\s$]+"
_INDEX = r"\[\d{1,6}\]"
_FORM = re.compile(rf"\$|((\$\.)?{_NAME}|\$?{_INDEX})(\.{_NAME}|{_INDEX})*")
_STEP = re.compile(rf"{_NAME}|{_INDEX}")


def parse_path(path: str) -> tuple[str | int, ...]:
    """`$` → (); `value` → ("value",); `$.items[0].link` → ("items", 0, "link"). Raises ValueError for anything else."""
    if not _FORM.fullmatch(path):
        raise ValueError(f"{path!r} is no path such as items[0].link, or $ for the whole document")
    return tuple(int(step[1:-1]) if step.startswith("[") else step for step in _STEP.findall(path))


def value_at(document: Any, steps: tuple[str | int, ...]) -> Any:
    """What is there; None when the document has no such place."""
    for step in steps:
        if isinstance(step, int):
            document = document[step] if isinstance(document, list) and step < len(document) else None
        else:
            document = document.get(step) if isinstance(document, dict) else None
    return document
