"""From a run file to base and adapter, in the one order that works, and from a run's weights to the same again.

Base, then its schedule, its changed weights, its place; then the adapter, which copies from the base; then its weights.
"""

from __future__ import annotations

from functools import partial

import torch
from diffusers import DDPMScheduler

from crawl.errors import InputError
from train.adapters import adapter_class, load_adapter
from train.adapters.adapter import Adapter, Needs
from train.base_models import Base, load_base
from train.checkpoint import find
from train.config import TrainRun
from train.device import place
from train.weights import Weights, give_adapter, give_base, parts_of

_CPU = torch.device("cpu")
_BARE = Needs()


def build(
    run: TrainRun, device: torch.device = _CPU, weights: Weights | None = None, source: str = "", partly: bool = False
) -> tuple[Base, Adapter]:
    """Base and adapter as the run file says; with `weights` (from `source`) in their place, if given.

    Without, the adapter begins from its published weights where the run file names some. `partly`: what the
    weights do not hold begins as if there were none. Raises InputError.
    """
    needs = adapter_class(run.adapter.kind).needs(run.adapter)
    base = _base(run, device, weights, source, needs)
    base.begin = partial(begun, run, device)
    adapter = load_adapter(run.adapter, base)
    if run.adapter.weights is not None and (weights is None or partly):
        adapter.load_weights(run.adapter.weights)
    if weights is not None:
        give_adapter(adapter, weights, source, partly)
    return base, adapter.to(device)


def begun(run: TrainRun, device: torch.device = _CPU) -> Base:
    """The base alone as this run begins with it, whatever it has trained since. Raises InputError."""
    weights = None if run.init_from is None else find(run.init_from).weights()
    return _base(run, device, weights, f"init_from: {run.init_from}")


def _base(run: TrainRun, device: torch.device, weights: Weights | None, source: str, needs: Needs = _BARE) -> Base:
    base = load_base(run.base, clip=needs.clip, face=needs.face)
    _set_schedule(base, run, learns_v=run.loop.train_unet or "unet" in parts_of(weights or {}))
    if weights is not None:
        give_base(base, weights, source)
    place(base, device, run.loop)
    return base


def _set_schedule(base: Base, run: TrainRun, learns_v: bool) -> None:
    """Zero-terminal SNR (arXiv 2305.08891): rescaled betas, v-prediction, sampling from the last step ("trailing").

    At SNR 0 the noise says nothing of the picture, so the base must predict v; one that does not must be trained to.
    """
    if not run.loss.zero_terminal_snr:
        return
    if base.schedule.config.prediction_type != "v_prediction" and not learns_v:
        raise InputError("loss.zero_terminal_snr: this base predicts noise: it needs loop.train_unet to learn v")
    base.schedule = DDPMScheduler.from_config(
        base.schedule.config,
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
