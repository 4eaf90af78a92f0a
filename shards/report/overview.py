"""What a page says of the dataset as a whole: counts, funnel, findings, licences, captions, throughput.

Knows nothing of HTML. What is not on record is left out, or said to be unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from caption.figures import CaptionFigures, caption_figures
from crawl.command import in_words
from crawl.errors import InputError
from crawl.status import unlisted
from crawl.timing import total_timings
from shards.beside.identities import UNKNOWN_LICENCE
from shards.beside.ledger import FunnelStep
from shards.report.charts import Chart, funnel_chart, reason_chart
from shards.report.folder import Folder
from shards.report.people import findings
from shards.report.photos import link
from shards.report.reasons import meaning
from shards.report.survey import Survey

_ORDER = ("fetch", "crawl", "scan", "verify", "pose", "classify", "crop", "caption", "shards")


@dataclass(frozen=True, slots=True)
class Throughput:
    """One step, over all buckets."""

    step: str
    photos: int
    seconds: float

    @property
    def rate(self) -> float | None:
        return self.photos / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything above the people."""

    tiles: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    """What is unknown, or worth saying first."""
    steps: tuple[FunnelStep, ...]
    meanings: dict[str, str]
    flow: tuple[Chart, ...]
    findings: tuple[tuple[str, str, str], ...]
    """(identity, name, what)."""
    distributions: tuple[Chart, ...]
    surveyed: str
    licences: tuple[tuple[str, str | None, int], ...]
    """(licence, its address, kept photos)."""
    throughput: tuple[Throughput, ...]
    captions: tuple[tuple[str, str], ...]
    """(figure, value)."""
    reasons: tuple[str, ...]
    """Every reason of the ledger, for the filter."""


def overview(folder: Folder, survey: Survey) -> Overview:
    """`survey` has seen the samples."""
    statuses = Counter({s[0]: n for s, n in folder.counts("status").items()})
    steps, figures = folder.funnel(), _figures(folder)
    names = {key: person.name for key, person in folder.identities.items()}
    found = tuple((key, p.name, what) for key, p in folder.identities.items() for what in findings(p, names))
    everything = len(folder.dataset)
    return Overview(
        tiles=tuple(_tiles(folder, statuses)),
        notes=tuple(_notes(folder, statuses)),
        steps=tuple(steps),
        meanings={reason: meaning(reason) for step in steps for reason, _ in step.reasons},
        flow=tuple(c for c in (funnel_chart(steps), reason_chart(steps)) if c is not None),
        findings=found,
        distributions=tuple(survey.charts(folder.run, figures)),
        surveyed=f"Of {survey.samples:,} kept photos." if survey.samples >= everything
        else f"Of {survey.samples:,} kept photos of {everything:,}, evenly spread over the shards.",
        licences=tuple(_licences(folder)),
        throughput=tuple(_throughput(folder)),
        captions=tuple(_captions(figures)),
        reasons=tuple(reasons(folder)),
    )  # fmt: skip


def reasons(folder: Folder) -> list[str]:
    """Every reason of the ledger, the most frequent first."""
    counts = Counter({str(reason): n for (reason,), n in folder.counts("reason").items() if reason})
    return [reason for reason, _ in counts.most_common()]


def _tiles(folder: Folder, statuses: Counter[str | None]) -> Iterator[tuple[str, str]]:
    index, listed = folder.dataset.index, [p for p in folder.identities.values() if p.identity]
    yield "photos found", f"{folder.photos:,}"
    for status, words in (
        ("kept", "kept"),
        ("rejected", "rejected"),
        ("failed", "could not be had"),
        ("removed", "taken down"),
    ):
        if statuses[status] or status == "kept":
            yield words, f"{statuses[status]:,}"
    yield "people kept", f"{sum(p.kept > 0 for p in listed):,} of {len(listed):,}"
    yield "shards", f"{len(index.shards):,}"
    yield "size", f"{sum(s.num_bytes for s in index.shards) / 1e6:,.1f} MB"


def _notes(folder: Folder, statuses: Counter[str | None]) -> Iterator[str]:
    yield from folder.unknown
    if statuses["removed"]:
        yield f"{statuses['removed']:,} photos were taken down: only that they were is on record."
    if not folder.output.names("tables/scan") and statuses["rejected"]:
        yield "The working tables are not in this folder: of rejected photos the faces are unknown."
    try:
        left_out = unlisted(folder.output)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        left_out = Counter()
    if left_out:
        yield f"Not listed by the sources, so not in the ledger: {in_words(left_out)}."


def _licences(folder: Folder) -> Iterator[tuple[str, str | None, int]]:
    counts: Counter[str] = Counter()
    for (status, licence), photos in folder.counts("status", "licence").items():
        if status == "kept":
            counts[licence or UNKNOWN_LICENCE] += photos
    for licence, photos in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield licence, link(licence), photos


def _throughput(folder: Folder) -> Iterator[Throughput]:
    fetched = _fetched(folder.counted["fetched_at"].drop_null().to_pylist())
    taken = {name: Throughput(name, t.photos, t.seconds) for name, t in total_timings(folder.output).items()}
    if fetched:
        taken["fetch"] = fetched
    yield from sorted(taken.values(), key=lambda t: (_ORDER.index(t.step) if t.step in _ORDER else len(_ORDER), t.step))


def _fetched(times: Sequence[str]) -> Throughput | None:
    """From the first answer to the last: a lower bound, since the clock also runs between runs."""
    try:
        moments = [datetime.fromisoformat(text) for text in times]
        seconds = (max(moments) - min(moments)).total_seconds()
    except (ValueError, TypeError):
        return None
    return Throughput("fetch", len(moments), seconds) if seconds > 0 else None


def _figures(folder: Folder) -> CaptionFigures | None:
    if folder.run is None or not folder.output.names("tables/caption"):
        return None
    try:
        return caption_figures(folder.run, folder.output)
    except (InputError, OSError, KeyError, TypeError, pa.ArrowException):
        return None


def _captions(figures: CaptionFigures | None) -> Iterator[tuple[str, str]]:
    if figures is None or not figures.portraits:
        return
    portraits = figures.portraits
    yield "Captions", f"{figures.captions:,} of {portraits:,} portraits"
    if figures.rejected:
        yield "Portraits without a caption", in_words(figures.rejected)
    if not figures.asked:
        yield "Captioner", "measured: no model was asked"
        return
    yield "Answers read", f"{figures.answers:,}, {figures.answers / portraits:.2f} a portrait"
    yield "Sent back, by reason", in_words(figures.sent_back) or "none"
    yield (
        "Portraits with an answer that leaked",
        ", ".join(f"{n / portraits:.1%} {kind}" for kind, n in figures.leaks.items()) or "none",
    )
    yield "Tokens of answers", f"{figures.new_tokens:,}, {figures.new_tokens / portraits:.0f} a portrait"
    if figures.seconds:
        each = figures.replies / figures.seconds * portraits / figures.asked
        yield "Captions/s, in each worker", f"{each:.2f}"
        yield "Tokens/s, in each worker", f"{figures.reply_tokens / figures.seconds:.0f}"
    else:
        yield "Speed", "not on record"
