"""What a captioner promises, and the one table of back-ends.

A back-end's libraries are imported only when it is opened. Knows nothing of files or of the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from caption.captioned import Caption
from caption.config import CaptionConfig
from crawl.photo import Rejection
from filter.portrait import Portrait


class Captioner(Protocol):
    """Describes portraits. Opened once per worker, used from one thread."""

    def caption(self, portraits: list[Portrait]) -> list[Caption | Rejection]:
        """One answer a portrait, in order; an answer never depends on which portraits share the batch.

        May raise for the whole batch: the stage then asks again, one portrait at a time.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the table."""

    made_by: str
    """Name and version; goes into every caption and into the stage's fingerprint."""
    free_text: bool
    """True when the words come from a model, which may know the person's name."""
    load: Callable[[CaptionConfig, str], Captioner]
    """(settings, made_by) → captioner; the heavy part."""

    def open(self, config: CaptionConfig) -> Captioner:
        return self.load(config, self.made_by)


def _measured(config: CaptionConfig, made_by: str) -> Captioner:
    from caption.measured import MeasuredCaptioner

    return MeasuredCaptioner(made_by)


BACKENDS: Mapping[str, Backend] = {
    "measured": Backend(made_by="measured-1", free_text=False, load=_measured),
}
