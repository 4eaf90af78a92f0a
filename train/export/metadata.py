"""What an exported file says of its training: the whole configuration, and kohya's `ss_` keys that tools look for.

Nothing of the machine and nobody's name: paths are cut to their last part, the data is a digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from train.adapters.settings import LoraSettings
from train.config import TrainRun

_PATHS = (
    "output",
    "init_from",
    "data.dataset",
    "adapter.weights",
    "adapter.lightning.weights",
    "base.weights",
    "base.clip",
    "base.vae",
)
_BASES = {"sdxl": ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"), "sd15": ("sd_v1", "stable-diffusion-v1")}


def metadata(run: TrainRun, about: Mapping[str, Any], format: str) -> dict[str, str]:
    """`about`: step, data, made_with of the checkpoint. All values are strings, as safetensors wants them."""
    own = {
        "personae.adapter": run.adapter.kind,
        "personae.config": json.dumps(_config(run), sort_keys=True),
        "personae.data": about["data"],
        "personae.format": format,
        "personae.made_with": json.dumps(about.get("made_with", {}), sort_keys=True),
        "personae.steps": about["step"],
    }
    version, architecture = _BASES.get(run.base.family, (run.base.family, run.base.family))
    spec = {
        "modelspec.architecture": f"{architecture}/{run.adapter.kind}",
        "modelspec.implementation": "diffusers",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": f"{run.adapter.kind} on {run.base.family}",
        "modelspec.trigger_phrase": getattr(run.adapter, "placeholder_token", getattr(run.adapter, "identifier", None)),
    }
    trained = {"ss_base_model_version": version, "ss_steps": about["step"], **_kohya(run)}
    entries = {"format": "pt", **own, **spec, **trained}
    return {key: str(value) for key, value in entries.items() if value is not None}


def _kohya(run: TrainRun) -> dict[str, object]:
    lora = getattr(run.adapter, "lora", None)
    network = {}
    if isinstance(lora, LoraSettings):  # published files hold no alpha: it is multiplied into the weights
        network = {"ss_network_dim": lora.rank, "ss_network_alpha": float(lora.rank)}
    return {
        "ss_learning_rate": run.optim.lr,
        "ss_lr_scheduler": run.optim.schedule,
        "ss_lr_warmup_steps": run.optim.warmup_steps,
        "ss_max_grad_norm": run.optim.max_grad_norm,
        "ss_max_train_steps": run.loop.steps,
        "ss_min_snr_gamma": run.loss.min_snr_gamma,
        "ss_mixed_precision": {"fp32": "no"}.get(run.loop.precision, run.loop.precision),
        "ss_network_module": f"personae.{run.adapter.kind}",
        "ss_noise_offset": run.loss.noise_offset,
        "ss_optimizer": run.optim.name,
        "ss_resolution": run.data.size_px,
        "ss_sd_model_name": _last_part(run.base.weights),
        "ss_seed": run.loop.seed,
        "ss_total_batch_size": run.loop.batch_size,
        "ss_zero_terminal_snr": run.loss.zero_terminal_snr,
        **network,
    }


def _config(run: TrainRun) -> dict[str, Any]:
    config = run.model_dump(mode="json")
    for path in _PATHS:
        *parents, name = path.split(".")
        section = config
        for parent in parents:
            section = section.get(parent, {})
        if name in section:
            section[name] = _last_part(section[name])
    return config


def _last_part(path: str | None) -> str | None:
    """Of a path or URL; a hub name, such as `owner/model`, is kept whole."""
    if path is None or (path.count("/") == 1 and not path.startswith((".", "/", "~"))):
        return path
    return PurePosixPath(path.split("?")[0]).name
