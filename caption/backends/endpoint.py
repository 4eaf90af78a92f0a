"""Any OpenAI-compatible chat API that takes images: vLLM's server, SGLang, hosted ones.

Asks several questions at a time; waits out busy and broken servers, all questions together when the server says so;
stops when the key, the model or the budget is at fault, or when nothing is answered any more. The key is in no message.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from caption.answer import SCHEMA
from caption.backends.transport import Post
from caption.budget import Budget
from caption.chat import Conversation, End, NoReply, Reply, openai_messages
from caption.config import CaptionConfig
from crawl.fetching.api import Answer, retry_after_s

_OUTAGE = 3
"""Questions in a row that get no reply, however often they are sent: then it is not the photos' fault."""
_FORMATS = ("json_schema", "json_object", None)
"""What may be asked of the answer's form, strictest first; a server that refuses one is asked the next."""
_STOPS = {
    401: "the key is not accepted",
    402: "the account has no credit left",
    403: "the key may not be used for this",
    404: "no such address, or no such model",
}
_THE_PHOTOS_FAULT = ("http_400", "http_413", "http_415", "http_422")
"""Said of a question, not of the server's state. Where nothing was answered yet, the run file may be at fault."""
_MOST_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Outside:
    """The world: network, clock, chance."""

    post: Post
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    rng: Random


class EndpointChat:
    """See `Chat`. Never raises for what a server does; once it has stopped, it asks nothing any more."""

    def __init__(self, config: CaptionConfig, outside: Outside, secret: str = "", budget: Budget | None = None) -> None:
        """`secret`: the key, so that it can be kept out of what servers echo."""
        self._config, self._settings = config, config.endpoint
        self._outside, self._secret, self._budget = outside, secret, budget
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._format = 0
        self._failed_in_a_row, self._ever_answered = 0, False
        self._stop: NoReply | None = None

    def ask(self, conversations: list[Conversation]) -> list[Reply | NoReply]:
        with ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="caption") as pool:
            told = list(pool.map(self._one, conversations))
        if self._budget is not None:
            self._budget.give_back()
        return told

    def _one(self, conversation: Conversation) -> Reply | NoReply:
        told = self._stop or self._patiently(conversation)
        with self._lock:
            if isinstance(told, Reply):
                self._failed_in_a_row, self._ever_answered = 0, True
                return told
            if told.reason in _THE_PHOTOS_FAULT and self._ever_answered:
                return Reply(f"{told.reason}: {told.detail}", 0, 0, "refused")
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _OUTAGE and not told.stops:
                told = self._stopping(told.reason, f"{_OUTAGE} questions in a row got no answer: {told.detail}")
            self._stop = told if told.stops else self._stop
        return NoReply("refused") if told.reason in _THE_PHOTOS_FAULT and not told.stops else told

    def _patiently(self, conversation: Conversation) -> Reply | NoReply:
        """Send until there is an answer, a reason that will not pass, or no try left."""
        sent, form = 0, self._format if conversation.structured else len(_FORMATS) - 1
        while True:
            self._rest(self._not_before - self._outside.monotonic())
            if self._stop is not None:
                return self._stop
            if self._budget is not None and not self._budget.take():
                return NoReply("budget", _SPENT.format(self._settings.max_requests), stops=True)
            answer = self._send(conversation, _FORMATS[form])
            told = self._heard(answer)
            if isinstance(told, Reply):
                self._agree_on(form if conversation.structured else 0)
                return told
            if told.stops:
                return told
            if told.reason in _THE_PHOTOS_FAULT:  # or that of the form asked for
                if _FORMATS[form] is None:
                    return told
                form += 1
                continue
            sent += 1
            if stop := self._pause(told.reason, answer):
                return stop
            if sent >= self._settings.tries:
                return told
            backoff_s = min(self._settings.backoff_s * 2.0 ** (sent - 1), self._settings.max_wait_s)
            self._rest(backoff_s * (0.5 + self._outside.rng.random()))

    def _send(self, conversation: Conversation, form: str | None) -> Answer | OSError:
        body: dict[str, Any] = {
            "model": self._config.model,
            "messages": openai_messages(conversation),
            "max_tokens": self._config.max_new_tokens,
            "temperature": self._config.temperature,
            **_response_format(form),
            **self._settings.parameters,
        }  # fmt: skip
        kept = {name: value for name, value in body.items() if value is not None}
        try:
            return self._outside.post(json.dumps(kept).encode())
        except OSError as error:
            return error

    def _heard(self, answer: Answer | OSError) -> Reply | NoReply:
        if isinstance(answer, OSError):
            timed_out = isinstance(answer, TimeoutError)
            return self._no("timeout" if timed_out else "connection", str(answer) or type(answer).__name__)
        if answer.status in _STOPS:
            return self._stopping(f"http_{answer.status}", f"{_STOPS[answer.status]} (HTTP {answer.status})")
        if answer.status != 200:
            return self._no(f"http_{answer.status}", _message(answer.body))
        return _reply(answer.body) or self._no("not_an_answer", "the server's answer is not a chat completion")

    def _pause(self, reason: str, answer: Answer | OSError) -> NoReply | None:
        """Heed Retry-After, for every question; what to say when the server asks for too long a pause."""
        if not isinstance(answer, Answer):
            return None
        asked_s = retry_after_s(answer.headers, self._outside.now())
        if asked_s is None:
            return None
        if asked_s > self._settings.max_wait_s:
            return self._stopping(reason, f"the server asks for a pause of {asked_s:.0f} s")
        with self._lock:
            self._not_before = max(self._not_before, self._outside.monotonic() + asked_s)
        return None

    def _rest(self, seconds: float) -> None:
        """Sleep, but not on when the run is ending."""
        until = self._outside.monotonic() + seconds
        while self._stop is None and (left_s := until - self._outside.monotonic()) > 0:
            self._outside.sleep(min(left_s, 1.0))

    def _agree_on(self, form: int) -> None:
        """The server takes this form: ask for none stricter from now on."""
        with self._lock:
            self._format = max(self._format, form)

    def _no(self, reason: str, detail: str) -> NoReply:
        text = " ".join(detail.split())
        return NoReply(reason, (text.replace(self._secret, "…") if self._secret else text)[:_MOST_DETAIL])

    def _stopping(self, reason: str, why: str) -> NoReply:
        told = self._no(reason, why)
        return NoReply(reason, f"{self._settings.url}: {told.detail}; what was answered is kept: {_RESUME}", stops=True)


_RESUME = "run the same command again to go on"
_SPENT = (
    "caption.endpoint.max_requests: all {} requests are spent; what they brought is kept: "
    "raise it and run the same command again to go on"
)


def _response_format(form: str | None) -> dict[str, Any]:
    if form == "json_schema":
        schema = {"name": "caption", "strict": True, "schema": SCHEMA}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {} if form is None else {"response_format": {"type": form}}


def _reply(body: bytes) -> Reply | None:
    """The first choice of a chat completion; None for anything else."""
    try:
        document = json.loads(body)
        choice = document["choices"][0]
        said, usage = choice["message"], document.get("usage") or {}
        text, ended = _text(said.get("content")), choice.get("finish_reason")
        refused = bool(said.get("refusal")) or ended == "content_filter"
        prompt_tokens, new_tokens = (int(usage.get(k) or 0) for k in ("prompt_tokens", "completion_tokens"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    end: End = "refused" if refused else "length" if ended == "length" else "stop"
    return Reply(text, prompt_tokens, new_tokens, end)


def _text(content: Any) -> str:
    """A content may be a text, a list of parts, or nothing."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if content is not None and not isinstance(content, str):
        raise TypeError("content is neither text nor parts")
    return (content or "").encode("utf-8", "replace").decode()


def _message(body: bytes) -> str:
    """What an error answer says, wherever APIs put it."""
    try:
        document = json.loads(body)
        error = document.get("error", document)
        return str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError, RecursionError):
        return body[:_MOST_DETAIL].decode("utf-8", "replace")
