"""Whether a run's weights can be kept in the format it names; known from the run file alone, before any training."""

from __future__ import annotations

from crawl.errors import InputError
from train.adapters import adapter_class
from train.adapters.settings import IpAdapterSettings, PhotoMakerSettings
from train.config import TrainRun


def check_exportable(run: TrainRun, format: str | None = None) -> None:
    """`format`: another one than `export` in the run file. Raises InputError naming the setting in the way."""
    wanted = format or run.export
    reason = adapter_class(run.adapter.kind).refusal(run.adapter, wanted)
    if reason is None and wanted == "comfyui":
        reason = _beside_comfyui(run)
    if reason is None and wanted == "photomaker":
        reason = _beside_photomaker(run)
    if reason is None and wanted == "pulid":
        reason = _beside_pulid(run)
    if reason is not None:
        raise InputError(f"export: {wanted}: {reason}")


def _beside_photomaker(run: TrainRun) -> str | None:
    if run.base.family == "sd15":
        return "base.family: sd15: PhotoMaker's file is for two text encoders"
    v2 = isinstance(run.adapter, PhotoMakerSettings) and run.adapter.version == "v2"
    if v2 and run.base.family == "sdxl" and run.base.face != "insightface":
        return f"base.face: {run.base.face}: PhotoMaker v2 embeds faces by insightface (512 numbers)"
    return None


def _beside_pulid(run: TrainRun) -> str | None:
    if run.base.family == "sd15":
        return "base.family: sd15: PuLID's file is for the 70 layers of SDXL"
    if run.base.family == "sdxl" and run.base.face != "insightface":
        return f"base.face: {run.base.face}: PuLID embeds faces by insightface (512 numbers)"
    return None


def _beside_comfyui(run: TrainRun) -> str | None:
    if run.base.family == "tiny":
        return "base.family: tiny: ComfyUI has no such base"
    faceid = isinstance(run.adapter, IpAdapterSettings) and run.adapter.encoder == "faceid"
    if faceid and run.base.face != "insightface":
        return f"base.face: {run.base.face}: ComfyUI embeds faces by insightface (512 numbers)"
    return None
