"""The Captioned row: a portrait and its caption in three parts.

The parts are the thesis' P_general, P_bg and P_body. Knows nothing of how a caption is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from filter.portrait import Portrait


@dataclass(frozen=True, slots=True)
class Caption:
    """English, three parts. The class word stands exactly once in `general`; the trigger goes right after it."""

    general: str
    background: str
    """May be empty: a plain background that nothing can be said of."""
    body: str
    class_word: str
    """man, woman, person …"""
    trigger_position: int
    """Character offset in `general` just behind the class word."""
    made_by: str
    """Back-end, model and prompt version."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """What goes into a shard."""

    portrait: Portrait
    caption: Caption
