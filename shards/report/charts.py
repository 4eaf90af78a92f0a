"""Charts as data: bars and what to say of them. The page's script hands them to Plotly, and a table says the same.

Knows nothing of colours, sizes or HTML. Labels are plain text here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.beside.ledger import FunnelStep

_LABEL = 60
"""Characters of a bar's label; its table has it in full."""


@dataclass(frozen=True, slots=True)
class Series:
    """Bars of one meaning."""

    name: str
    values: tuple[float, ...]
    role: str
    """kept, rejected, or the number of a neutral colour: `1`, `2` …"""
    notes: tuple[str, ...] = ()
    """Said when a bar is pointed at."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over labels or numbers."""

    id: str
    title: str
    labels: tuple[str, ...] | tuple[float, ...]
    """Texts, or the middles of bins."""
    series: tuple[Series, ...]
    x_title: str = ""
    y_title: str = "photos"
    horizontal: bool = False
    stacked: bool = False
    line: float | None = None
    """A threshold among the numbers."""
    line_label: str = ""
    picks: str = ""
    """Which filter a click on a bar sets."""
    note: str = ""
    """How the numbers came about, where it does not go without saying."""

    @property
    def height_px(self) -> int:
        """Kept free before the chart is drawn, so that nothing moves."""
        if self.horizontal:
            return 90 + 26 * len(self.labels) + 24 * (len(self.series) > 1)
        return 220 if self.id.startswith("similarity") else 280

    @property
    def rows(self) -> list[tuple[str, tuple[float, ...]]]:
        """The table: label, value a series."""
        if not self.labels or isinstance(self.labels[0], str):
            names = [str(label) for label in self.labels]
        else:
            half = (float(self.labels[1]) - float(self.labels[0])) / 2 if len(self.labels) > 1 else 0.5
            names = [f"{float(m) - half:.4g} – {float(m) + half:.4g}" for m in self.labels]
        return list(zip(names, zip(*(s.values for s in self.series), strict=True), strict=True))

    def as_json(self) -> dict[str, object]:
        """What the script needs."""
        shown = [_short(label) if isinstance(label, str) else label for label in self.labels]
        return {
            "labels": shown,
            "full": list(self.labels) if self.picks else [],
            "series": [{"name": s.name, "values": s.values, "role": s.role, "notes": s.notes} for s in self.series],
            "x": self.x_title,
            "y": self.y_title,
            "horizontal": self.horizontal,
            "stacked": self.stacked,
            "line": self.line,
            "lineLabel": self.line_label,
            "picks": self.picks,
            "height": self.height_px,
        }


def funnel_chart(steps: Sequence[FunnelStep]) -> Chart | None:
    """How many photos go on from each stage, and how many end there."""
    if not steps:
        return None
    reasons = tuple(", ".join(f"{n:,} {_short(reason)}" for reason, n in step.reasons) for step in steps)
    ended = tuple(step.entered - step.left for step in steps)
    series = (
        Series("go on", tuple(s.left for s in steps), "kept"),
        Series("end here", ended, "rejected", reasons),
    )
    stages = tuple(step.stage for step in steps)
    return Chart("funnel", "Photos that go on from each stage", stages, series, horizontal=True, stacked=True)


def reason_chart(steps: Sequence[FunnelStep]) -> Chart | None:
    """Reasons over all stages, most first; a click shows those photos."""
    counts = [(f"{reason}", n, step.stage) for step in steps for reason, n in step.reasons]
    if not counts:
        return None
    counts.sort(key=lambda c: (-c[1], c[0]))
    series = Series("photos", tuple(n for _, n, _ in counts), "rejected", tuple(f"at {stage}" for *_, stage in counts))
    labels = tuple(reason for reason, *_ in counts)
    return Chart("reasons", "Why photos ended", labels, (series,), horizontal=True, picks="reason")


def similarity(
    identity: str, kept: Sequence[float], rejected: Sequence[float], threshold: float | None
) -> Chart | None:
    """The person's histogram of cosines. None without any."""
    every = [*kept, *rejected]
    if not every:
        return None
    edges = _edges([*every, *([] if threshold is None else [threshold])], 24)
    series = tuple(
        Series(name, _counts(values, edges), name)
        for name, values in (("kept", kept), ("rejected", rejected))
        if values
    )
    return Chart(
        f"similarity-{identity}",
        "Cosines to the person’s centre",
        _middles(edges),
        series,
        x_title="cosine",
        stacked=True,
        line=threshold,
        line_label="" if threshold is None else f"at least {threshold:.3f}",
    )


def histogram(
    id: str,
    title: str,
    values: Sequence[float],
    x_title: str,
    line: float | None = None,
    line_label: str = "",
    note: str = "",
) -> Chart | None:
    """Of kept photos. None without any."""
    finite = [v for v in values if np.isfinite(v)]
    if not finite:
        return None
    edges = _edges([*finite, *([] if line is None else [line])], 30)
    series = (Series("kept photos", _counts(finite, edges), "1"),)
    return Chart(id, title, _middles(edges), series, x_title, line=line, line_label=line_label, note=note)


def _edges(values: Sequence[float], most: int) -> list[float]:
    """Edges at round steps (1, 2, 5 × 10ⁿ) over all values, at most about `most` bins."""
    low, high = float(min(values)), float(max(values))
    raw = max((high - low) / most, 1e-6 * max(abs(high), 1.0), 1e-6)
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = np.floor(low / step + 1e-9), np.floor(high / step + 1e-9) + 1
    return [float(n * step) for n in np.arange(first, last + 1)]


def _counts(values: Sequence[float], edges: list[float]) -> tuple[float, ...]:
    return tuple(int(n) for n in np.histogram(values, edges)[0])


def _middles(edges: list[float]) -> tuple[float, ...]:
    return tuple(round((a + b) / 2, 8) for a, b in itertools.pairwise(edges))


def _short(label: str) -> str:
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"
