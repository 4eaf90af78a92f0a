"""Figures of the caption stage: how much was asked, what had to be asked again and why, how long the parts are.

Taken from `tables/caption`, `tables/efforts` and `tables/replies`, so they can be read at any time and are the same for
a run that was interrupted. Knows nothing of how captions are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from caption.check import MAX_TOKENS
from caption.config import CaptionRun
from caption.dialogue import STAGE, Effort
from caption.models import speaker
from caption.replies import speeds
from caption.stage import EFFORTS
from crawl.output import Output
from crawl.tables import Tables

PARTS = ("general", "background", "body")
_BIN = 10
BINS = tuple(f"{low}–{min(low + _BIN - 1, MAX_TOKENS)}" for low in range(0, MAX_TOKENS + 1, _BIN))
"""CLIP tokens, ends and trigger included: 0–9, 10–19, … 70–77."""


@dataclass(frozen=True, slots=True)
class CaptionFigures:
    """Of a whole dataset."""

    captions: int
    rejected: Mapping[str, int]
    """Reason → portraits without a caption."""
    asked: int
    """Replies of the model that these outcomes rest on, known ones too; 0 when no model was asked."""
    answers: int
    """Structured ones among them."""
    sent_back: Mapping[str, int]
    """Reason → faults in answers that were sent back."""
    leaks: Mapping[str, int]
    """Kind → portraits of which at least one answer leaked, before it was sent back; none gets into a caption."""
    new_tokens: int
    """The model's tokens in all answers that the captions rest on."""
    lengths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Part → captions by CLIP tokens, in `BINS`."""
    seconds: float | None = None
    """Time spent waiting for this model's replies, over all workers and runs; None when none is on record."""
    replies: int = 0
    """Replies that took `seconds`."""
    reply_tokens: int = 0

    @property
    def portraits(self) -> int:
        return self.captions + sum(self.rejected.values())


def caption_figures(run: CaptionRun, output: Output) -> CaptionFigures:
    """The figures of what is captioned by now."""
    tables, buckets = Tables(output), range(run.shards.buckets)
    outcomes = [r for b in buckets for r in tables.rejections(STAGE, b).values()]
    efforts = [e.row for b in buckets for e in tables.read(EFFORTS, b, Effort) if e.row is not None]
    said = speeds(output, speaker(run.caption)) if run.caption.backend != "measured" else None
    replies, reply_tokens, seconds = said or (0, 0, None)
    return CaptionFigures(
        captions=sum(r is None for r in outcomes),
        rejected=_sorted(Counter(r.reason for r in outcomes if r is not None)),
        asked=sum(e.replies for e in efforts),
        answers=sum(e.answers for e in efforts),
        sent_back=_sorted(Counter(reason for e in efforts for reason in e.faults)),
        leaks=_sorted(Counter(kind for e in efforts for kind in e.leaks)),
        new_tokens=sum(e.new_tokens for e in efforts),
        lengths={part: _histogram(getattr(e, f"{part}_tokens") for e in efforts) for part in PARTS},
        seconds=seconds,
        replies=replies,
        reply_tokens=reply_tokens,
    )


def figure_lines(figures: CaptionFigures) -> Iterator[str]:
    """The figures for a person; nothing when no model was asked."""
    if not figures.asked:
        return
    once = figures.portraits or 1
    back = ", ".join(f"{count} {reason}" for reason, count in figures.sent_back.items()) or "nothing"
    leaks = ", ".join(f"{count / once:.1%} {kind}" for kind, count in figures.leaks.items()) or "none"
    yield f"Answers: {figures.answers} for {figures.portraits} portraits; sent back for {back}"
    yield f"Portraits with an answer that leaked (and was sent back): {leaks}"
    yield f"CLIP tokens a part, of {MAX_TOKENS}:"
    yield f"  {'':<10}" + "".join(f"{name:>7}" for name in BINS)
    for part, counts in figures.lengths.items():
        yield f"  {part:<10}" + "".join(f"{count:>7}" for count in counts)
    if figures.seconds:
        rate = figures.reply_tokens / figures.seconds
        each = figures.replies / figures.seconds * once / figures.asked
        yield f"Model: {figures.replies} replies so far, {each:.2f} portraits/s and {rate:.0f} tokens/s in each worker"


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _histogram(tokens: Iterable[int]) -> tuple[int, ...]:
    """Of captions only: a part has at least its two ends."""
    counts = Counter(min(count // _BIN, len(BINS) - 1) for count in tokens if count)
    return tuple(counts[n] for n in range(len(BINS)))
