"""Settings of the whole build: the engine, and the run file in full."""

from __future__ import annotations

from pydantic import Field

from caption.config import CaptionRun
from crawl.settings import Settings


class EngineConfig(Settings):
    """Where and how widely the build runs."""

    cpus: int | None = Field(
        None, ge=1, description="Workers, one per core. Default: all cores here, or all of the cluster's."
    )
    address: str | None = Field(
        None, description="A running cluster (`auto`, `ray://host:port`). Default: a local one, on 127.0.0.1 only."
    )
    buckets_per_task: int = Field(1, ge=1, description="Identity buckets handed to a worker at a time.")
    worker_deaths: int = Field(
        8, ge=0, description="How often a worker may die over one task before the build gives up."
    )
    gpus_per_worker: float | None = Field(
        None,
        ge=0,
        description="GPUs a worker takes while it crops, captions and packs; below 1, workers share one. Default: "
        "for `caption.backend: qwen` 1 where there are any, for `vllm` its `tensor_parallel`, else none.",
    )
    allow_open_cluster: bool = Field(
        False, description="Use a remote cluster although it has no token authentication (RAY_AUTH_MODE=token)."
    )


class BuildRun(CaptionRun):
    """A run file, in full: what `python -m shards build` needs."""

    engine: EngineConfig = EngineConfig()
