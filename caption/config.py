"""Settings of the caption stage."""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from crawl.settings import Settings
from filter.config import FilterRun

DEFAULT_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
"""The largest Qwen2.5-VL under Apache-2.0 that fits one common GPU."""


class EndpointConfig(Settings):
    """An OpenAI-compatible chat API that takes images, and how hard it may be asked."""

    url: str | None = Field(
        None, description="Where the API begins, such as `https://HOST/v1`; `/chat/completions` is added."
    )
    key_env: str | None = Field(None, min_length=1, description="Name of the environment variable with your key.")
    key_header: str = Field("Authorization", pattern=r"^[A-Za-z0-9-]+$", description="The header it is sent in.")
    key_prefix: str = Field("Bearer ", pattern=r"^[ -~]*$", description="Put before the key.")
    parameters: dict[str, Any] = Field(
        {}, description="Further fields of each request's JSON; null takes one of ours out. No place for a key."
    )
    concurrency: int = Field(8, ge=1, le=256, description="Requests in flight at a time, in each worker.")
    timeout_s: float = Field(120.0, gt=0, description="Wall clock for one answer.")
    tries: int = Field(5, ge=1, le=20, description="How often one question is sent when the server is busy or broken.")
    backoff_s: float = Field(
        2.0,
        ge=0,
        description="Pause before the second try, doubled each time, with jitter; Retry-After may lengthen it.",
    )
    max_wait_s: float = Field(
        120.0, ge=0, description="A server that asks for a longer pause ends the run, which can be resumed."
    )
    max_requests: int | None = Field(
        None,
        ge=1,
        description="Most requests this dataset may ever cost, over all runs and workers; null: no limit.",
    )

    @field_validator("url")
    @classmethod
    def _an_address_without_secrets(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://HOST/… or https://HOST/…")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("no user, password, query or fragment: a key goes into the variable that key_env names")
        return url.rstrip("/")

    @field_validator("parameters")
    @classmethod
    def _no_key_among_the_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if named := [name for name in parameters if re.search(r"api_?-?key|token$|secret|authorization", name, re.I)]:
            raise ValueError(f"{named[0]}: a key goes into the variable that key_env names")
        return parameters


class VllmConfig(Settings):
    """What vLLM's engine is told, beyond the model."""

    tensor_parallel: int = Field(1, ge=1, description="GPUs that share one model; `engine.gpus_per_worker` follows it.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of the GPU's memory the engine may take.")
    max_model_len: int = Field(8192, ge=1024, description="Longest conversation, in tokens; longer ones are refused.")


class CaptionConfig(Settings):
    """Settings of `python -m caption`; docs/captions.md explains them."""

    backend: Literal["measured", "qwen", "vllm", "endpoint"] = Field(
        "measured",
        description="What describes the photos. `measured`: words derived from measurements, no model; "
        "`qwen`: Qwen2.5-VL in this process; `vllm`: the same on vLLM; `endpoint`: a chat API.",
    )
    batch_size: int = Field(8, ge=1, le=1024, description="Portraits handed to the back-end at a time.")
    model: str | None = Field(
        None,
        min_length=1,
        description=f"Name on the Hugging Face hub or local folder, by default {DEFAULT_MODEL}; "
        "for `endpoint` the API's name of it, required.",
    )
    revision: str | None = Field(
        None, min_length=1, description="Commit, tag or branch of the model; for `endpoint` a label of your own."
    )
    prompt: str = Field(
        "thesis",
        min_length=1,
        description="`thesis`: a general caption first, then its parts; `single`: one turn; "
        "`thesis-1` and such: that version; or the path of a prompt file.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Invalid answers to a photo, the errors told each time, before it is given up.",
    )
    max_new_tokens: int = Field(400, ge=16, le=8192, description="Longest single answer, in the model's tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0: always the likeliest word.")
    max_pixels: int = Field(
        1_003_520,
        ge=3136,
        description="A larger crop is scaled down for `qwen` and `vllm`; 784 pixels are one token.",
    )
    endpoint: EndpointConfig = EndpointConfig()
    vllm: VllmConfig = VllmConfig()

    @model_validator(mode="after")
    def _an_endpoint_is_named(self) -> CaptionConfig:
        if self.backend == "endpoint" and self.endpoint.url is None:
            raise ValueError("endpoint.url: name the API, such as https://HOST/v1")
        if self.backend == "endpoint" and self.model is None:
            raise ValueError("model: name the model as the API knows it")
        return self


class CaptionRun(FilterRun):
    """What `python -m caption` needs of a run file."""

    caption: CaptionConfig = CaptionConfig()
