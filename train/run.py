"""A run: what happens between the steps of its loop — log lines, gauges, checkpoints, stopping — and around it."""

from __future__ import annotations

import importlib.metadata
import io
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from crawl.command import console
from crawl.config import dump
from crawl.output import Output
from train.adapters.adapter import Needs
from train.base_models import Base
from train.checkpoint import Meta, folders, prune, save
from train.config import TrainRun
from train.data.dataset import TrainData
from train.data.draws import Draws
from train.data.source import BatchSource
from train.device import memory_advice, quicken
from train.evaluate.scheduled import Scheduled
from train.gauges import Gauges
from train.grids import sample_grid
from train.log import Log, Values
from train.loop import NonFiniteError, Record
from train.preflight import check, check_dataset
from train.processes import processes
from train.progress import Progress, summary, trained_in_words
from train.speed import peak_flops, peak_memory_mb
from train.start import MakeSource, Start, is_finished, start
from train.weights import collect

NOT_FINITE = 3
"""Exit code of a run that stopped at a loss or gradient that is not finite."""


def train(run: TrainRun, make_source: MakeSource | None = None) -> int:
    """Run, or go on with, what `run` says, until its last step or SIGTERM; both give 0. Raises InputError.

    `make_source`: where batches come from instead of the dataset.
    """
    check(run)
    if make_source is None:
        check_dataset(run)
    with processes() as among, memory_advice(run), stop_at_sigterm() as stop:
        if is_finished(run):
            if among.is_main:
                console().print(f"nothing to do: {run.output} has all {run.loop.steps} steps")
                summary(Path(run.output))
            return 0
        begun = start(run, among, make_source or from_shards)
        if among.is_main:
            Output(run.output).write("config.resolved.yaml", dump(run).encode())
        config = run.model_dump(mode="json")
        log = Log(Path(run.output), begun.done, run.loop.wandb_project, config) if among.is_main else nullcontext()
        try:
            with log as lines, Progress(begun.done, run.loop.steps, among.is_main) as progress:
                _Session(run, begun, lines, progress).run(stop)
        except NonFiniteError as error:
            if among.is_main:
                print(f"error: {error}; {_last_checkpoint(run)}", file=sys.stderr)
            return NOT_FINITE
        if among.is_main:
            summary(Path(run.output))
        among.wait()
        return 0


def from_shards(run: TrainRun, needs: Needs, base: Base, draws: Draws) -> BatchSource:
    """The dataset that the run file names."""
    return TrainData(run.data, needs, base, draws)


def _last_checkpoint(run: TrainRun) -> str:
    kept = folders(Path(run.output))
    return f"last checkpoint: {kept[-1]}" if kept else "no checkpoint yet"


@contextmanager
def stop_at_sigterm() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM only makes the given function say so: the step is finished and a checkpoint written first."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Session:
    """The main process' business between steps; in the others, `log` is None: they step, and help to evaluate."""

    def __init__(self, run: TrainRun, begun: Start, log: Log | None, progress: Progress) -> None:
        self._run, self._begun, self._loop, self._log, self._progress = run, begun, begun.loop, log, progress
        self._output, self._window = Path(run.output), begun.window
        peak = peak_flops(self._loop.among.device, run.loop.precision)
        self._peak_flops = None if peak is None else peak * self._loop.among.world
        self._flops = begun.loop.flops()
        quicken(begun.loop.base, run.loop)
        loop = self._loop
        self._gauges = (
            Gauges(loop.base, loop.adapter, loop.source, loop.draws, run.loop.gauge_samples, run.loop.precision)
            if log is not None
            else None
        )

        self._evaluation = None if run.evaluate.every is None else Scheduled(run, loop.base, loop.adapter, loop.among)

    def run(self, stop: Callable[[], bool]) -> None:
        run, done = self._run, self._begun.done
        for note in (*self._begun.notes, self._opening(done)):
            self._progress.say(note)
        if done == 0:
            self._measure(0)
        with closing(self._loop.steps(done, run.loop.steps, stop)) as records:
            for record in records:
                self._after(record)
                if record.stop:
                    self._progress.say(f"stopped by SIGTERM after step {record.step}: the same command goes on there")
                    break

    def _opening(self, done: int) -> str:
        steps, among = self._run.loop.steps, self._loop.among
        where = f"{among.world} × {among.device.type}" if among.world > 1 else among.device.type
        what = f"{self._run.adapter.kind} on {self._run.base.family}, {where}: {trained_in_words(self._loop.trained)}"
        return f"{what}; goes on after step {done} of {steps}" if done else f"{what}; {steps} steps"

    def _after(self, record: Record) -> None:
        evaluated = self._evaluated(record.step)
        if self._log is None:
            return
        loop, done = self._run.loop, record.step
        self._window.add(record)
        self._progress.step(done)
        last = done == loop.steps
        if last or done % loop.log_every == 0:
            memory_mb = peak_memory_mb(self._loop.among.device)
            self._write(done, self._window.close(loop.batch_size, self._flops, self._peak_flops, memory_mb))
        if last or done % loop.gauges_every == 0:
            self._measure(done)
        if evaluated:
            self._write(done, evaluated)
        if last or (self._run.samples.every is not None and done % self._run.samples.every == 0):
            self._grid(done)
        if last or record.stop or done % loop.save_every == 0:
            self._save(done)

    def _measure(self, done: int) -> None:
        if self._gauges is None:
            return
        with self._means():
            values = self._gauges.measure()
        self._write(done, {f"gauge/{name}": value for name, value in values.items()})

    def _evaluated(self, done: int) -> Values:
        """By all processes together, when it is time; else nothing."""
        every = self._run.evaluate.every
        if self._evaluation is None or every is None or (done % every and done < self._run.loop.steps):
            return {}
        with self._means():
            return self._evaluation.measure()

    def _grid(self, done: int) -> None:
        loop, png = self._loop, io.BytesIO()
        with self._means():
            grid = sample_grid(loop.base, loop.adapter, loop.source, self._run.samples, self._run.loop.seed)
        grid.save(png, "PNG")
        Output(self._run.output).write(f"samples/step-{done:08d}.png", png.getvalue())

    def _means(self) -> AbstractContextManager[None]:
        """Gauges and grids are of the running means where the run keeps them."""
        return nullcontext() if self._loop.ema is None else self._loop.ema.applied()

    def _write(self, done: int, values: Values) -> None:
        assert self._log is not None
        self._log.write(done, values)
        self._progress.line(done, values)

    def _save(self, done: int) -> None:
        loop = self._loop
        tensors = {
            "weights": collect(loop.base, loop.adapter, self._begun.parts),
            "optimizer": loop.optimiser.state(),
            **({} if loop.ema is None else {"ema": loop.ema.state()}),
        }
        meta = Meta(
            step=done, run=self._run, data=loop.source.digest, window=self._window.state(), made_with=versions()
        )
        save(self._output, meta, tensors)
        prune(self._output, self._run.loop.keep_checkpoints)


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {name: importlib.metadata.version(name) for name in ("personae", "torch", "diffusers", "transformers")}
