"""Captions by a describer: something that looks at a portrait and says it all at once, from words of its own.

Its captions are checked as any other's, but not for names: a closed vocabulary holds none. Knows no describer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Protocol

from caption.batches import each_or_all
from caption.captioned import Caption
from caption.captioner import Answer, Sitter
from caption.check import faults
from caption.dialogue import STAGE, Effort, lengths
from caption.tokens import estimated_tokens
from crawl.photo import Rejection
from filter.portrait import Portrait


class Describer(Protocol):
    """Says of portraits what it sees."""

    def caption(self, portraits: list[Portrait]) -> list[Caption | Rejection]:
        """One answer a portrait, in order. May raise for the whole batch."""
        ...


class DescribingCaptioner:
    """See `Captioner`."""

    def __init__(self, describer: Describer, batch_size: int) -> None:
        self._describer, self._batch_size = describer, batch_size

    def captions(self, sitters: Iterable[Sitter]) -> Iterator[Answer]:
        rest = iter(sitter.portrait for sitter in sitters)
        while batch := list(itertools.islice(rest, self._batch_size)):
            for portrait, told in zip(batch, each_or_all(self._describer.caption, batch), strict=True):
                outcome = _checked(told)
                measured = lengths(outcome, estimated_tokens) if isinstance(outcome, Caption) else {}
                yield Answer(portrait.key, outcome, Effort(0, 0, (), (), 0, 0, **measured))


def _checked(told: Caption | Rejection) -> Caption | Rejection:
    found = [] if isinstance(told, Rejection) else faults(told)
    detail = "; ".join(fault.text for fault in found)
    return Rejection(STAGE, "invalid_caption", float(len(found)), 0.0, detail) if found else told
