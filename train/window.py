"""The steps since the last log line, as one line. Knows the loop's records, not where lines go."""

from __future__ import annotations

from collections.abc import Sequence

from train.log import Values
from train.loop import Record


class Window:
    """`earlier`: what an interrupted run had measured of this window; its times are gone, its losses are not."""

    def __init__(self, earlier: Sequence[dict[str, float]] = ()) -> None:
        self._losses = list(earlier)
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        self._losses.append({**record.losses, "grad_norm": record.grad_norm})
        self._records.append(record)

    def close(self, batch_size: int, flops: float, peak_flops: float | None, memory_mb: float) -> Values:
        """The line, and a new window. `flops` a sample; `peak_flops` of all devices together.

        loss and its parts (`loss/…`) and grad_norm: means over steps; lr: of the last step, each group's;
        samples_per_s; mfu: null where the peak is not known; data_wait: share of the time that steps waited.
        """
        last, seconds = self._records[-1], sum(record.seconds for record in self._records)
        speed = batch_size * len(self._records) / seconds
        means = {name: sum(step[name] for step in self._losses) / len(self._losses) for name in self._losses[0]}
        line: dict[str, float | None] = {
            "loss": means.pop("loss"),
            "grad_norm": means.pop("grad_norm"),
            **{f"loss/{name}": mean for name, mean in means.items()},
            **{f"lr/{name}": lr for name, lr in last.lr.items()},
            "samples_per_s": speed,
            "mfu": None if peak_flops is None else flops * speed / peak_flops,
            "memory_mb": memory_mb,
            "data_wait": sum(record.wait_s for record in self._records) / seconds,
        }
        self._losses, self._records = [], []
        return line

    def state(self) -> tuple[dict[str, float], ...]:
        return tuple(self._losses)


def is_line(values: Values) -> bool:
    """Whether a line of metrics is of a window (others are of gauges)."""
    return "samples_per_s" in values
