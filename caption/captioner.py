"""What a captioner promises, and the one table of back-ends.

A back-end's libraries are imported only when it has something to describe. Knows nothing of the stage.
"""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol

from caption.captioned import Caption
from caption.chat import Chat
from caption.config import CaptionConfig
from caption.dialogue import Effort, Rules
from caption.models import speaker
from caption.prompt import load_prompt
from caption.replies import KnownFirst, Replies
from crawl.output import Output
from crawl.photo import Rejection
from filter.portrait import Portrait


@dataclass(frozen=True, slots=True)
class Sitter:
    """A portrait, and the name that must not be in its caption."""

    portrait: Portrait
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one portrait."""

    key: str
    """The portrait's."""
    outcome: Caption | Rejection
    effort: Effort


class Captioner(Protocol):
    """Describes portraits, and lets no caption out that is not valid. Used from one thread."""

    def captions(self, sitters: Iterable[Sitter]) -> Iterator[Answer]:
        """One answer a portrait, in order, a batch at a time; one never depends on which others share its batch."""
        ...


Studio = Callable[[Replies], Captioner]
"""Opened once per worker: a bucket's known replies → the captioner for it. Models load at the first need."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the table."""

    made_by: Callable[[CaptionConfig], str]
    """Back-end, model and prompt, with their versions; goes into every caption."""
    depends_on: Callable[[CaptionConfig], dict[str, Any]]
    """What else in the settings a caption depends on."""
    open: Callable[[CaptionConfig, Output | None], Studio]
    """The dataset folder, if there is one, holds what a budget has left."""


def _open_measured(config: CaptionConfig, output: Output | None) -> Studio:
    from caption.describing import DescribingCaptioner
    from caption.measured import MeasuredCaptioner

    captioner = DescribingCaptioner(MeasuredCaptioner(), config.batch_size)
    return lambda replies: captioner


def _open_chat(open_chat: Callable[[CaptionConfig, Output | None], Chat]) -> Callable[..., Studio]:
    """A back-end that talks: opened when there is something that no known reply answers."""

    def studio(config: CaptionConfig, output: Output | None) -> Studio:
        from caption.asking import AskingCaptioner
        from caption.tokens import clip_token_counter, estimated_tokens

        chat = functools.cache(lambda: open_chat(config, output))
        counter = functools.cache(lambda: clip_token_counter() or estimated_tokens)

        def captioner(replies: Replies) -> Captioner:
            rules = Rules(load_prompt(config.prompt), _made_by(config), config.max_attempts, counter())
            return AskingCaptioner(KnownFirst(chat, speaker(config), replies, time.monotonic), rules, config.batch_size)

        return captioner

    return studio


def _qwen(config: CaptionConfig, output: Output | None) -> Chat:
    from caption.backends.qwen import load_qwen

    return load_qwen(config)


def _vllm(config: CaptionConfig, output: Output | None) -> Chat:
    from caption.backends.vllm import load_vllm

    return load_vllm(config)


def _endpoint(config: CaptionConfig, output: Output | None) -> Chat:
    from caption.backends.endpoint import EndpointChat, Outside
    from caption.backends.transport import poster
    from caption.budget import Budget
    from crawl.fetching.api import key_from

    settings = config.endpoint
    key = key_from(os.environ, settings.key_env, "caption.endpoint.key_env") if settings.key_env else ""
    headers = {settings.key_header: settings.key_prefix + key} if key else {}
    post = poster(f"{settings.url}/chat/completions", headers, settings.timeout_s)
    budget = None
    if settings.max_requests is not None and output is not None:
        budget = Budget(output, settings.max_requests, uuid.uuid4().hex, settings.concurrency)
    outside = Outside(post, time.monotonic, lambda: datetime.now(UTC), time.sleep, Random())
    return EndpointChat(config, outside, key, budget)


def _made_by(config: CaptionConfig) -> str:
    return f"{speaker(config).name} {load_prompt(config.prompt).version}"


def _of_a_chat(config: CaptionConfig) -> dict[str, Any]:
    return {"manner": speaker(config).manner, "max_attempts": config.max_attempts}


def _measured_by(config: CaptionConfig) -> str:
    from caption.measured import MADE_BY

    return MADE_BY


BACKENDS: Mapping[str, Backend] = {
    "measured": Backend(_measured_by, lambda config: {}, _open_measured),
    "qwen": Backend(_made_by, _of_a_chat, _open_chat(_qwen)),
    "vllm": Backend(_made_by, _of_a_chat, _open_chat(_vllm)),
    "endpoint": Backend(_made_by, _of_a_chat, _open_chat(_endpoint)),
}
