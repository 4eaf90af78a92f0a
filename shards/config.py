"""Settings of the whole build: the engine, what is said when it is published, and the run file in full."""

from __future__ import annotations

from pydantic import Field, model_validator

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


class PublishConfig(Settings):
    """What the card says of the dataset as a whole, and what may leave this machine; docs/publishing.md."""

    title: str = Field("Identity photo dataset", min_length=1, pattern=r"^[^\n]+$", description="Heading of the card.")
    version: str = Field(
        "1.0.0",
        pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$",
        description="MAJOR.MINOR.PATCH of the dataset, and tag of what is published; raise it with the content.",
    )
    contact: str | None = Field(
        None,
        min_length=3,
        pattern=r"^[^\n]+$",
        description="Address or URL on the card for requests of removal; null: the discussions of the dataset's page.",
    )
    names: bool = Field(
        False, description="Publish the names of the people, and samples whose URLs or authors hold them."
    )
    names_reason: str | None = Field(
        None, min_length=10, pattern=r"^[^\n]+$", description="Why names may be published: said on the card."
    )
    repo: str | None = Field(
        None, description="OWNER/NAME on the Hugging Face hub; `publish` records it in the copy that it publishes."
    )

    @model_validator(mode="after")
    def _names_go_out_with_a_reason(self) -> PublishConfig:
        if self.names and self.names_reason is None:
            raise ValueError("names_reason: say why the names may be published")
        return self


class BuildRun(CaptionRun):
    """A run file, in full: what `python -m shards build` needs."""

    engine: EngineConfig = EngineConfig()
    publish: PublishConfig = PublishConfig()
