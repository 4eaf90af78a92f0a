"""From rows to what is shown: a mean with its interval for each method, set, metric and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from train.evaluate.bootstrap import mean
from train.evaluate.distribution import Number
from train.evaluate.rows import METRICS, TINY, Metric, Row, described, named, with_zeros


@dataclass(frozen=True, slots=True)
class Score:
    """One number of one method on one set."""

    method: str
    set_name: str
    metric: str
    model: str
    mean: float
    low: float | None
    """Ends of the 95 % interval over people; of KID and IS one `spread` below and above."""
    high: float | None
    images: int
    people: int
    headline: bool = True
    """False: shown for completeness, not to be quoted."""
    note: str = ""

    @property
    def about(self) -> Metric:
        return described(self.metric)


def scored(rows: Iterable[Row]) -> list[Score]:
    """Means of rows over pictures; those that could not be measured count in none. In order of methods and metrics."""
    groups: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in with_zeros(list(rows)):
        if row.value is not None:
            groups[row.method, row.set_name, row.metric, row.model].append(row)
    found = []
    for (method, set_name, metric, model), group in groups.items():
        of = mean([row.value for row in group if row.value is not None], [row.person for row in group])
        assert of is not None
        found.append(Score(method, set_name, metric, model, of.mean, of.low, of.high, of.images, of.people))
    return found


def of_a_set(
    method: str, set_name: str, model: str, people: int, images: int, numbers: dict[str, Number]
) -> list[Score]:
    """FID, KID, IS."""
    found = []
    for name, number in numbers.items():
        spread = number.spread
        low, high = (None, None) if spread is None else (number.value - spread, number.value + spread)
        called = named(name, model)
        found.append(
            Score(
                method, set_name, called, model, number.value, low, high, images, people, number.headline, number.note
            )
        )
    return found


def in_order(scores: Iterable[Score], methods: list[str]) -> list[Score]:
    """By set and metric as they are shown, then by model, then by method."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(
        scores,
        key=lambda s: (s.set_name, places[s.metric.replace(TINY, "")], s.model, methods.index(s.method)),
    )
