"""What a person sees of a run: a bar with the time left, a line a log line elsewhere, tables at both ends."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from crawl.command import console
from train.checkpoint import folders
from train.log import FILE, Values, read_metrics
from train.trained import Trained
from train.window import is_line

_LABELS = {"samples_per_s": "samples/s", "gauge/loss": "held-out loss"}
_EVALUATED = ("face_sim_reference", "no_face", "clip_t_clean", "clip_t_tiny_clean")
_GAUGES = (
    "swap_gap",
    "swap_gap_general",
    "swap_gap_background",
    "swap_gap_body",
    "swap_gap_look",
    "swap_gap_pose",
    "collapse",
    "loss",
)


class Progress:
    """A bar on stderr on a terminal; elsewhere each log line as text. `shown`: false in all processes but one."""

    def __init__(self, done: int, steps: int, shown: bool) -> None:
        self._out, self._steps, self._shown = console(), steps, shown
        columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bars = Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self._task = self._bars.add_task("", total=steps, completed=done)

    def step(self, done: int) -> None:
        self._bars.update(self._task, completed=done)

    def line(self, done: int, values: Values) -> None:
        text = in_words(values)
        if self._bars.live.is_started:
            self._bars.update(self._task, description=text)
        elif self._shown:
            self._out.print(f"step {done}/{self._steps}  {text}")

    def say(self, text: str) -> None:
        if self._shown:
            self._out.print(text)

    def __enter__(self) -> Progress:
        if self._shown and self._bars.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bars.live.is_started:
            self._bars.stop()


def in_words(values: Values) -> str:
    """A log line or the gauges, shortly."""
    if any(name.startswith("evaluate/") for name in values):
        return _evaluation_in_words(values)
    if not is_line(values):
        return "  ".join(_gauge_in_words(name, values) for name in _GAUGES if values.get(f"gauge/{name}") is not None)
    mfu = "" if values["mfu"] is None else f"  MFU {values['mfu']:.1%}"
    return (
        f"loss {values['loss']:.4f}  {values['samples_per_s']:.1f} samples/s{mfu}  "
        f"{values['memory_mb']:,.0f} MB  data wait {values['data_wait']:.1%}"
    )


def _evaluation_in_words(values: Values) -> str:
    """Each set's Face-Sim and CLIP-T; the rest is in the metrics."""
    found = []
    for name, value in values.items():
        _, set_name, metric, model = name.split("/", 3)
        if metric in _EVALUATED and value is not None:
            found.append(f"{set_name} {metric} {value:.3f} ({model})")
    return "  ".join(found)


def _gauge_in_words(name: str, values: Values) -> str:
    value, low, high = (values.get(f"gauge/{name}{end}") for end in ("", "_low", "_high"))
    between = "" if low is None else f" ({low:+.4f} … {high:+.4f})"
    return f"{_LABELS.get(f'gauge/{name}', _words(name))} {value:.4f}{between}"


def trained_in_words(what: Trained) -> str:
    """What is trained, and how much of it."""
    groups = (f"{g.name} {sum(p.numel() for p in g.parameters) / 1e6:,.2f} M" for g in what.groups)
    return f"trains {', '.join(groups)} parameters"


def summary(output: Path) -> None:
    """The closing table: first and last log line, first and last gauges, where things are."""
    out, metrics = console(), read_metrics(output)
    table = Table("", "first", "last")
    lines, gauges = [v for v in metrics if is_line(v)], [v for v in metrics if "gauge/loss" in v]
    for of, names in ((lines, ("step", "loss", "samples_per_s")), (gauges, tuple(f"gauge/{g}" for g in _GAUGES))):
        for name in (n for n in names if of and of[-1].get(n) is not None):
            table.add_row(_LABELS.get(name, _words(name)), *(_cell(v.get(name)) for v in (of[0], of[-1])))
    if table.row_count:
        out.print(table)
    out.print(f"metrics     {output / FILE}")
    for folder in folders(output)[-1:]:
        out.print(f"checkpoint  {folder}")


def _words(name: str) -> str:
    return name.removeprefix("gauge/").replace("_", " ")


def _cell(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
