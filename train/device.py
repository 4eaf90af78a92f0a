"""Where and in which form the base computes: device, precision, memory format, checkpointing, compilation.

Knows nothing of what is trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import nn

from crawl.errors import InputError
from train.base_models import Base
from train.config import LoopConfig, TrainRun


def place(base: Base, device: torch.device, loop: LoopConfig) -> None:
    """Onto `device`, before an adapter is made: frozen parts in `precision`, the VAE and what is trained in float32."""
    dtype = torch.bfloat16 if loop.precision == "bf16" else torch.float32
    nn.Module.to(base.unet, device, torch.float32 if loop.train_unet else dtype)  # diffusers' own `to` warns of nothing
    base.text.to(device, dtype)
    base.vae.to(device)
    if base.clip is not None:
        base.clip.to(device, dtype)
    if loop.channels_last:
        base.unet.to(memory_format=torch.channels_last)


def quicken(base: Base, loop: LoopConfig) -> None:
    """Checkpointing and compilation, once all is installed in the UNet."""
    if loop.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    if loop.compile:
        base.unet.compile_repeated_blocks()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision where the base is bfloat16: matrix products in it, adapters' weights stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextlib.contextmanager
def memory_advice(run: TrainRun) -> Iterator[None]:
    """Out of memory becomes one line that says which settings help."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(f"out of memory: {_advice(run)}") from None


def _advice(run: TrainRun) -> str:
    loop, size_px = run.loop, run.data.size_px
    now = loop.micro_batch or loop.batch_size
    ways = [f"loop.micro_batch={max(1, now // 2)} (now {now}; the result is the same)"] if now > 1 else []
    if not loop.gradient_checkpointing:
        ways.append("loop.gradient_checkpointing=true (about half as much again to compute)")
    if loop.precision == "fp32":
        ways.append("loop.precision=bf16")
    ways.append(f"a smaller data.size_px (now {size_px or 'the size of the shards'})")
    return "try " + ", or ".join(ways)
