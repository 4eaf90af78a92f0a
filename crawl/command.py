"""What every command shares: `CONFIG.yaml [key=value …]`, progress bars, stages run in this process.

Knows nothing of what the stages do.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from crawl.config import Run, load
from crawl.output import Output
from crawl.stage import Stage, pending, run_pending
from crawl.tables import Tables

_LOG_WIDTH = 120


def add_config_arguments(
    parser: argparse.ArgumentParser,
    optional: bool = False,
    page: str = "docs/configuration.md",
    example: str = "filter.min_side_px=256",
) -> None:
    """`page` lists every key of the run file; `example` is an override."""
    number = "?" if optional else None
    parser.add_argument("config", metavar="CONFIG.yaml", nargs=number, help=f"the run file; {page} lists every key")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help=f"for example {example}")


def load_run(prog: str, description: str, model: type[Run], arguments: Sequence[str] | None = None) -> Run:
    """Parse `CONFIG.yaml [key=value …]` and load it as `model`."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add_config_arguments(parser)
    parsed = parser.parse_args(arguments)
    return load(model, parsed.config, parsed.overrides)


def console() -> Console:
    """For what a command says on stdout; as wide as the terminal, or wide enough for a table in a log."""
    on_terminal = Console(highlight=False, soft_wrap=True)
    return on_terminal if on_terminal.is_terminal else Console(highlight=False, soft_wrap=True, width=_LOG_WIDTH)


def in_words(reasons: Mapping[str, int]) -> str:
    """`3 no_face, 1 blurred`: most first."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


class _Speed(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} photos/s" if speed else "")


class Bars:
    """One bar a stage: photos done, photos/s, time left, refusals by reason. On stderr, and only on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[refused]}"),
            console=console or Console(stderr=True),
        )
        self._tasks = {}  # type: ignore[var-annotated]
        self._refused: dict[str, Counter[str]] = defaultdict(Counter)

    def expect(self, stage: str, photos: int) -> None:
        """Set or correct how many photos a stage will see."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=photos, refused="")
        else:
            self._progress.update(self._tasks[stage], total=photos)

    def tick(self, stage: str, photos: int) -> None:
        """Photos done; of `fetch: REASON` how many of them were refused for it."""
        stage, _, reason = stage.partition(": ")
        if stage not in self._tasks:
            self.expect(stage, 0)
        if reason:
            self._refused[stage][reason] += photos
            self._progress.update(self._tasks[stage], refused=in_words(self._refused[stage]))
        else:
            self._progress.update(self._tasks[stage], advance=photos)

    def settle(self) -> None:
        """These stages are through: what upstream stages rejected never came, so nothing is left to do."""
        for task in self._progress.tasks:
            self._progress.update(task.id, total=task.completed)

    def __enter__(self) -> Bars:
        if self._progress.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress.live.is_started:
            self._progress.stop()


def run_here(stages: Sequence[Stage], buckets: int, output: Output, photos: int) -> None:
    """Run stages over all buckets, one after another, in this process."""
    tables = Tables(output)
    with Bars() as bars:
        for stage in stages:
            bars.expect(stage.name, photos)
        for bucket in pending(stages, range(buckets), tables):
            run_pending(stages, bucket, tables, bars.tick)
        bars.settle()
