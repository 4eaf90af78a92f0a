"""A model's answer as text → a caption, or what is wrong with the answer.

Takes what models do around JSON: fences, words before and after, thinking aloud, needless white space. Whether the
caption is fit for training is decided in `caption.check`. Knows no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from caption.captioned import Caption
from caption.check import Fault
from caption.words import CLASS_WORDS

PARTS = ("general", "background", "body")
KEYS = (*PARTS, "class_word")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{part: {"type": "string"} for part in PARTS},
        "class_word": {"type": "string", "enum": list(CLASS_WORDS)},
    },
    "required": list(KEYS),
    "additionalProperties": False,
}
"""JSON Schema of an answer, for back-ends that can hold a model to one."""

_NOTHING = frozenset({"none", "n/a", "na", "null", "empty", "nothing"})
"""What models write instead of an empty string."""
_MOST_OBJECTS = 200
"""Braces looked at in one answer: bounds the work on a hostile one."""


def read_answer(text: str, made_by: str) -> Caption | list[Fault]:
    """The caption in an answer, white space tidied and the trigger's place found; or the faults, one or more."""
    answer = _object(text)
    if answer is None:
        return [Fault("not_json", f"no JSON object with the keys {', '.join(KEYS)} in the answer")]
    faults = list(_faults(answer))
    if faults:
        return faults
    tidy = {key: " ".join(answer[key].encode("utf-8", "replace").decode().split()) for key in KEYS}
    if tidy["background"].strip(" .").lower() in _NOTHING:
        tidy["background"] = ""
    word = tidy["class_word"].lower()
    found = re.search(rf"\b{re.escape(word)}\b", tidy["general"], re.IGNORECASE) if word else None
    return Caption(
        general=tidy["general"],
        background=tidy["background"],
        body=tidy["body"],
        class_word=word,
        trigger_position=found.end() if found else 0,
        made_by=made_by,
    )


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that holds most of the keys; of equals the last, since models think before they answer."""
    best: dict[str, Any] | None = None
    for candidate in _objects(text):
        held = sum(key in candidate for key in KEYS)
        if held and held >= sum(key in (best or {}) for key in KEYS):
            best = candidate
    return best


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in a text, the ones inside others too."""
    decoder = json.JSONDecoder(strict=False)
    starts = (match.start() for match in re.finditer(r"\{", text))
    for _, start in zip(range(_MOST_OBJECTS), starts, strict=False):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield value


def _faults(answer: dict[str, Any]) -> Iterator[Fault]:
    for key in KEYS:
        if key not in answer:
            yield Fault("missing", f"{key} is missing")
        elif not isinstance(answer[key], str):
            yield Fault("not_text", f"{key} is not a text")
