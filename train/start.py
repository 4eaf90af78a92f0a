"""How a run begins: from its latest checkpoint, from another run's weights, or from nothing. Ends with a Loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crawl.errors import InputError
from train.adapters import adapter_class
from train.adapters.adapter import Adapter, Needs
from train.base_models import Base
from train.checkpoint import Checkpoint, find, folders, latest, step_name
from train.config import TrainRun
from train.data.dataset import TrainData
from train.data.draws import Draws
from train.data.source import BatchSource
from train.fit_vae import PHOTOS, fit_vae
from train.loop import Loop
from train.model import build
from train.optimise import Ema, Optimiser
from train.processes import Processes
from train.same_run import refuse_another, refuse_other_data
from train.trained import trained
from train.weights import Weights, collect, parts_of
from train.window import Window

MakeSource = Callable[[TrainRun, Needs, Base, Draws], BatchSource]


@dataclass(frozen=True, eq=False)
class Start:
    """A loop, and where in it the run stands."""

    loop: Loop
    done: int
    """Optimiser steps."""
    window: Window
    parts: frozenset[str]
    """Of the base, that are not as its files say: saved with the run."""
    notes: tuple[str, ...]
    """What a person should know."""


def is_finished(run: TrainRun) -> bool:
    """Whether all steps of this run are done: known without loading a model. Raises InputError as `start` does."""
    output = Path(run.output)
    if not any(folder.name >= step_name(run.loop.steps) for folder in folders(output)):
        return False
    found, _ = latest(output)
    if found is None or found.meta.step < run.loop.steps:
        return False
    refuse_another(found, run)
    return True


def start(run: TrainRun, among: Processes, make_source: MakeSource) -> Start:
    """Raises InputError for a wrong run file, other data than the checkpoint's, weights that do not fit."""
    found, notes = latest(Path(run.output))
    if found is not None:
        refuse_another(found, run)
    weights, origin = _weights(run, found)
    base, adapter = build(run, among.device, weights, origin, partly=found is None)
    draws = Draws(run.loop.seed)
    source = make_source(run, adapter_class(run.adapter.kind).needs(run.adapter), base, draws)
    if found is not None:
        refuse_other_data(found, source.digest, run)
    if isinstance(source, TrainData):
        notes += source.summary.lines()
    parts = parts_of(weights or {}) | (frozenset({"unet"}) if run.loop.train_unet else frozenset())
    if run.loop.fit_vae_steps and found is None:
        notes.append(_fit_vae(run, base, source, draws, parts, among))
        parts |= {"vae"}
    loop = _loop(run, base, adapter, source, draws, among)
    if found is not None:
        loop.optimiser.load(found.tensors("optimizer"))
        if loop.ema is not None:
            loop.ema.load(found.tensors("ema"))
    among.copy_from_main(collect(base, adapter, parts).values())
    window = Window(found.meta.window if found else ())
    return Start(loop, found.meta.step if found else 0, window, parts, tuple(notes))


def _weights(run: TrainRun, found: Checkpoint | None) -> tuple[Weights | None, str]:
    """The weights to begin with, and whose they are."""
    if found is not None:
        return found.weights(mean=False), str(found.folder)
    if run.init_from is not None:
        before = find(run.init_from)
        _same_target(run, before)
        return before.weights(), f"init_from: {run.init_from}"
    return None, ""


def _same_target(run: TrainRun, before: Checkpoint) -> None:
    """A UNet that learned v is read as v by whoever goes on with it, and one that learned ε as ε."""
    then, now = before.meta.run.loss.zero_terminal_snr, run.loss.zero_terminal_snr
    if then != now and before.meta.run.loop.train_unet and not run.loop.train_unet:
        raise InputError(
            f"loss.zero_terminal_snr: {str(now).lower()}, but the UNet of init_from: {run.init_from} "
            f"was trained with {str(then).lower()}"
        )


def _fit_vae(
    run: TrainRun, base: Base, source: BatchSource, draws: Draws, parts: frozenset[str], among: Processes
) -> str:
    if "vae" in parts:
        raise InputError("loop.fit_vae_steps: the run of init_from brings its fitted VAE: leave this out")
    error = fit_vae(base.vae, source.photos(PHOTOS).to(among.device), run.loop.fit_vae_steps, draws)
    return f"VAE fitted in {run.loop.fit_vae_steps} steps: mean squared error {error:.4f} of pixels in [−1, 1]"


def _loop(run: TrainRun, base: Base, adapter: Adapter, source: BatchSource, draws: Draws, among: Processes) -> Loop:
    what = trained(base, adapter, run.loop.train_unet)
    optimiser = Optimiser(what, run.optim, run.loop.steps)
    ema = None if run.loop.ema is None else Ema(what, run.loop.ema)
    return Loop(run, base, adapter, what, optimiser, ema, source, draws, among)
