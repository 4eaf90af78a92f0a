"""Asking a JSON API, patiently and boundedly: which answers are worth another try, when, and how often.

The network, the clock, sleep and chance are arguments. Knows nothing of any one API, opens no connection,
and never puts parameters, headers or bodies into a message: they may hold a user's key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from types import MappingProxyType
from typing import Any

from crawl.errors import InputError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, whatever the status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


Get = Callable[[str, Mapping[str, str], Mapping[str, str]], Answer]
"""`get(url, parameters, headers)`. Raises NoAnswer for what must not be asked, OSError for what did not come."""

BUSY = "busy"
"""An API's own word for "not now" in an answer with status 200."""
RETRIED = frozenset({BUSY, "http_429", "http_500", "http_502", "http_503", "http_504", "not_json", "connection"})
"""Reasons that are worth another try at once."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_MAX_TEXT = 2000


class NoAnswer(OSError):
    """An API gave no usable answer, however patiently it was asked.

    `reason`: `http_403` and such, `busy`, `connection`, `not_json`, `unexpected_answer`, `api_error: CODE`, or what
    `get` says. `retry`: whether the next run may have more luck.
    """

    def __init__(self, url: str, reason: str, retry: bool) -> None:
        super().__init__(f"{url}: no answer: {reason}")
        self.url = url
        self.reason = reason
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and how long at most between two requests for the same thing."""

    attempts: int = 5
    backoff_s: float = 5.0
    """Before the second attempt; doubled each time. Retry-After may make it longer, nothing makes it shorter."""
    max_wait_s: float = 120.0
    """A server that asks for a longer pause is left alone until the next run."""


class Api:
    """A way to ask: the network, the clock, chance, and patience."""

    def __init__(
        self,
        get: Get,
        sleep: Callable[[float], None],
        now: Callable[[], datetime],
        rng: Random,
        patience: Patience = Patience(),
    ) -> None:
        self._get = get
        self._sleep = sleep
        self._now = now
        self._rng = rng
        self._patience = patience

    def json(
        self,
        url: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str] = _NOTHING,
        fault: Callable[[Any], str | None] = lambda document: None,
        retried: Collection[str] = RETRIED,
    ) -> Any:
        """The document the API answers with. `fault` finds a reason, such as BUSY, in a document that is an error.

        Raises NoAnswer when the last attempt has failed, or the first with a reason that is not `retried`.
        """
        for attempt in range(1, self._patience.attempts + 1):
            document, reason, asked_s = self._ask(url, parameters, headers, fault)
            if reason is None:
                return document
            wait_s = self._wait_s(attempt, asked_s)
            if reason not in retried or attempt == self._patience.attempts or wait_s is None:
                raise NoAnswer(url, reason, retry=_may_pass(reason))
            self._sleep(wait_s)
        raise AssertionError("unreachable")

    def _ask(
        self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str], fault: Callable[[Any], str | None]
    ) -> tuple[Any, str | None, float | None]:
        """(document, what is wrong, seconds the server asks to wait)."""
        try:
            answer = self._get(url, parameters, headers)
        except NoAnswer:
            raise
        except OSError:
            return None, "connection", None
        asked_s = retry_after_s(answer.headers, self._now())
        if answer.status != 200:
            return None, f"http_{answer.status}", asked_s
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            return None, "not_json", asked_s
        return document, fault(document), asked_s

    def _wait_s(self, attempt: int, asked_s: float | None) -> float | None:
        """Seconds to wait, None when the server asks for more than we wait."""
        if asked_s is not None and asked_s > self._patience.max_wait_s:
            return None
        backoff_s = min(self._patience.backoff_s * 2.0 ** (attempt - 1), self._patience.max_wait_s)
        return max(backoff_s, asked_s or 0.0) * (1 + 0.25 * self._rng.random())


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that Retry-After asks for (a number, or a date against the answer's own Date); None when it says nothing.

    Header names in lower case. Never negative; nonsense is nothing.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{0,9})?", text):
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    return max(0.0, (until - (_http_date(headers.get("date", "")) or now)).total_seconds())


def key_from(environment: Mapping[str, str], variable: str, field: str) -> str:
    """A user's key from the environment variable that the configuration names.

    Raises InputError naming the field, and the variable only where it is surely no key put there by mistake.
    """
    key = environment.get(variable, "").strip()
    if not key:
        name = variable if re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", variable) else "(not shown)"
        raise InputError(f"{field}: the environment variable it names is not set: {name}")
    if not key.isascii() or not key.isprintable():
        raise InputError(f"{field}: the environment variable it names holds a line break or another odd character")
    return key


def text_of(value: Any) -> str | None:
    """A text from a document, on one line, at most 2,000 characters; None for what is no text or empty."""
    if not isinstance(value, str):
        return None
    text = " ".join(value[: 4 * _MAX_TEXT].encode("utf-8", "replace").decode().split())
    return text[:_MAX_TEXT] or None


def url_of(value: Any) -> str | None:
    """An address from a document, as it stands; None for what is no text, empty, or not valid Unicode."""
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        return None
    return value.strip() or None


def records_of(value: Any) -> list[dict[str, Any]]:
    """The objects of a list in a document; [] for what is no list."""
    return [record for record in value if isinstance(record, dict)] if isinstance(value, list) else []


def _may_pass(reason: str) -> bool:
    """Of our own errors only "too many" pass by themselves; everything on the server's side may."""
    ours = re.fullmatch(r"http_4\d\d", reason) is not None
    return reason in ("http_408", "http_425", "http_429") or not (ours or reason.startswith("api_error"))


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
