"""`python -m train bench`: samples/s, MFU and peak memory of the training step over batch sizes and options.

The loop, the adapter and the base are those of a real run; the people are patterns, so no dataset is needed. Prints
Markdown. MFU counts the model's FLOPs (without checkpointing's recomputation, without encoders) against the card's
dense peak; null where the peak is not known.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from train.adapters import adapter_class, load_adapter
from train.adapters.adapter import Adapter
from train.base_models import Base, load_base
from train.config import TrainRun
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.device import place, quicken
from train.loop import Loop, Record
from train.optimise import Optimiser
from train.processes import Processes, processes
from train.random_base import random_base
from train.speed import peak_flops
from train.trained import trained

_WARM_UP = 2
_HEAD = ("batch", "features", "options", "samples/s", "ms/step", "data wait", "MFU", "peak MB")


@dataclass(frozen=True, slots=True)
class Case:
    """One row."""

    batch_size: int
    online: bool = False
    channels_last: bool = False
    checkpointing: bool = False
    compile: bool = False

    @property
    def options(self) -> str:
        names = ("channels_last", "checkpointing", "compile")
        return ", ".join(name for name in names if getattr(self, name)) or "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", choices=("tiny", "sdxl", "sd15"), default="tiny", help="default: tiny")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--random-weights", action="store_true", help="the family's real shapes; nothing is downloaded")
    source.add_argument("--weights", metavar="NAME", help="hub name or folder of a pipeline")
    parser.add_argument("--clip", metavar="NAME", help="CLIP vision tower, with --weights")
    parser.add_argument("--adapter", default="ip_adapter", help="kind, with default settings (ip_adapter)")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32], metavar="N", help="default: 8 16 32")
    parser.add_argument("--size-px", type=int, default=512, help="side of the photos (512)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a row (10)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="of the frozen base (bf16)")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled rows out")


def run(parsed: argparse.Namespace) -> int:
    """Exit code 0 also when rows run out of memory: they say so."""
    with processes() as among:
        bench = _Bench(parsed, among)
        if among.is_main:
            print(f"{bench.title}\n\n| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}")
        for case in _cases(parsed.batch, not parsed.no_compile):
            row = bench.row(case)
            if among.is_main:
                print(f"| {' | '.join(row)} |", flush=True)
    return 0


def _cases(batches: list[int], compiled: bool) -> Iterator[Case]:
    """One thing at a time; compilation last, since it stays."""
    for options in ({}, {"online": True}, {"channels_last": True}, {"checkpointing": True}):
        yield from (Case(batch, **options) for batch in batches)
    if compiled:
        yield from (Case(batch, compile=True) for batch in batches)


class _Bench:
    def __init__(self, parsed: argparse.Namespace, among: Processes) -> None:
        self._parsed, self._among = parsed, among
        self._run = _run_file(parsed, parsed.batch[0])
        self._needs = adapter_class(parsed.adapter).needs(self._run.adapter)
        self._base = self._loaded()
        place(self._base, among.device, self._run.loop)
        self._adapter: Adapter = load_adapter(self._run.adapter, self._base).to(among.device)
        self._compiled = False
        self._flops = self._loop(Case(1)).flops()
        peak = peak_flops(among.device, parsed.precision)
        self._peak = None if peak is None else peak * among.world

    @property
    def title(self) -> str:
        device = self._among.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        parsed, size = self._parsed, sum(p.numel() for p in self._base.unet.parameters()) / 1e6
        return (
            f"{parsed.family} ({size:,.0f} M with {parsed.adapter}), {parsed.size_px} px, {parsed.precision}, "
            f"{self._among.world} × {name}; {self._flops / 1e12:.3f} TFLOP a sample, forward and backward"
        )

    def row(self, case: Case) -> tuple[str, ...]:
        head = (str(case.batch_size), "online" if case.online else "cached", case.options)
        try:
            records = self._measured(case)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return (*head, "out of memory", *[""] * 4)
        seconds = sum(record.seconds for record in records)
        speed, wait = case.batch_size * len(records) / seconds, sum(record.wait_s for record in records) / seconds
        mfu = "" if self._peak is None else f"{self._flops * speed / self._peak:.1%}"
        memory = f"{torch.cuda.max_memory_allocated() / 2**20:,.0f}" if self._among.device.type == "cuda" else ""
        return (*head, f"{speed:.2f}", f"{1e3 * seconds / len(records):,.0f}", f"{wait:.1%}", mfu, memory)

    def _measured(self, case: Case) -> list[Record]:
        self._base.unet.to(memory_format=torch.channels_last if case.channels_last else torch.contiguous_format)
        self._base.unet.disable_gradient_checkpointing()
        loop = self._loop(case)
        quicken(self._base, loop.run.loop.model_copy(update={"compile": case.compile and not self._compiled}))
        self._compiled |= case.compile
        if self._among.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        steps = _WARM_UP + self._parsed.steps
        return [record for record in loop.steps(0, steps, lambda: False) if record.step > _WARM_UP]

    def _loop(self, case: Case) -> Loop:
        run, draws = _run_file(self._parsed, case.batch_size, case), Draws(0)
        what = trained(self._base, self._adapter, train_unet=False)
        source = Synthetic(self._base, self._needs, draws, self._parsed.size_px, online=case.online)
        optimiser = Optimiser(what, run.optim, run.loop.steps)
        return Loop(run, self._base, self._adapter, what, optimiser, None, source, draws, self._among)

    def _loaded(self) -> Base:
        parsed, dtype = self._parsed, torch.bfloat16 if self._parsed.precision == "bf16" else torch.float32
        if parsed.weights is None:
            return random_base(parsed.family, self._among.device, dtype, clip=self._needs.clip)
        return load_base(self._run.base, clip=self._needs.clip)


def _run_file(parsed: argparse.Namespace, batch_size: int, case: Case | None = None) -> TrainRun:
    base = {"family": parsed.family, "weights": parsed.weights or "random", "clip": parsed.clip}
    return TrainRun.model_validate(
        {
            "output": "nowhere",
            "data": {"dataset": "patterns", "size_px": parsed.size_px},
            "base": {} if parsed.family == "tiny" else base,
            "adapter": {"kind": parsed.adapter},
            "loop": {
                "steps": _WARM_UP + parsed.steps,
                "batch_size": batch_size,
                "precision": parsed.precision,
                "gradient_checkpointing": case is not None and case.checkpointing,
            },
        }
    )
