"""Evaluation while training: a few pictures of the run's own people, each process its part, one line of means.

No picture is kept, and nothing that needs many: no FID, no pictures without a person. Knows nothing of schedules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from train.adapters import adapter_class
from train.adapters.adapter import Adapter
from train.base_models import Base
from train.config import TrainRun
from train.evaluate.meters import Meters, Seen, by_person_and_prompt
from train.evaluate.people import sets_of
from train.evaluate.rows import Row
from train.evaluate.scores import scored
from train.evaluate.shots import drawn, shots_of
from train.generate import checked_side_px, usual_side_px
from train.processes import Processes


class Scheduled:
    """Always the same people, prompts and noise: two evaluations differ by the weights only."""

    def __init__(self, run: TrainRun, base: Base, adapter: Adapter, among: Processes) -> None:
        """Raises InputError for missing packages and weights, and a dataset that cannot be read."""
        self._settings, self._base, self._adapter, self._among = run.evaluate, base, adapter, among
        self._side_px = checked_side_px(self._settings.size_px or usual_side_px(run), base)
        needs = adapter_class(run.adapter.kind).needs(run.adapter)
        self._listens_to = frozenset({*needs.text, *needs.parts})
        groups = by_person_and_prompt(
            shots_of(sets_of(self._settings, run.data.dataset, [run.data], None), self._settings, False)
        )
        self._groups = groups[among.rank :: among.world]
        self._meters = Meters.load(self._settings)

    def measure(self) -> dict[str, float | None]:
        """`evaluate/SET/METRIC/MODEL` → mean over all pictures of all processes; the same in each of them."""
        training = self._adapter.training
        self._adapter.eval()
        own = list(self._rows())
        self._adapter.train(training)
        rows = [row for part in self._among.gather(own) for row in part]
        return {f"evaluate/{s.set_name}/{s.metric}/{s.model}": s.mean for s in scored(_in_order(rows))}

    def _rows(self) -> Iterator[Row]:
        shots = [shot for group in self._groups for shot in group]
        pictures = {
            id(shot): picture
            for shot, picture in drawn(
                self._base, self._adapter, shots, self._settings, self._side_px, self._listens_to
            )
        }
        for group in self._groups:
            seen = [Seen(shot, pictures[id(shot)]) for shot in group]
            yield from self._meters.rows("run", self._listens_to, seen)


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """As one process would have them: sums of floats depend on the order."""
    return sorted(rows, key=lambda row: (row.set_name, row.person, row.prompt, row.seed))
