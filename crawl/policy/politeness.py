"""How often one host may be asked: the settings of a fetch, and the pace they make for a host.

The clock and chance are arguments. Knows nothing of requests, robots.txt or photos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

MAX_CRAWL_DELAY_S = 60.0
"""A longer Crawl-delay counts as this: what asks for more than a minute asks to be left alone, in other words."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How to ask, how much, and how patiently. The same for every host."""

    user_agent: str = "Personae/0.1"
    """NAME/VERSION; the name is what robots.txt and X-Robots-Tag may address."""
    contact: str = ""
    """URL or address of whoever runs the crawl; added to the user agent."""
    interval_s: float = 1.0
    """Least time between two requests to one host, and never two at once."""
    timeout_s: float = 30.0
    """Wall clock, for one whole answer."""
    max_bytes: int = 32 * 2**20
    """Of one answer, decompressed."""
    partition_timeout_s: float = 86_400.0
    """Wall clock, for all that is asked of one call's hosts; what is left waits for the next run."""
    retries: int = 2
    """Further attempts at once: connection errors, cut bodies, 408, 425, 429, 5xx."""
    backoff_s: float = 1.0
    """Before the second attempt, doubled each time, ± 50 % by chance."""
    max_wait_s: float = 300.0
    """A host that asks with Retry-After for more is left alone until the next run."""
    breaker_failures: int = 5
    """After so many failures in a row a host is left alone until the next run."""
    hosts_at_once: int = 16
    """Hosts a child process asks side by side, each for itself with one request in flight."""
    verify_certificates: bool = True
    own_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT, exempt from the address guard and from nothing else."""
    allowed_networks: tuple[str, ...] = ()
    """For tests, whose internet is the loopback interface; no run file leads here."""
    seed: int = 0
    """Of the chance in backing off."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FetchSettings:
        """The inverse of `dataclasses.asdict`, also after JSON."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in record.items()}
        return cls(**values)

    @property
    def agent(self) -> str:
        """The User-Agent header."""
        return f"{self.user_agent} (+{self.contact})" if self.contact else self.user_agent


class Pace:
    """When one host may be asked next, and whether at all. Times are in seconds of one monotonic clock."""

    def __init__(self, settings: FetchSettings, rng: Random, begun_at: float = -math.inf) -> None:
        """`begun_at`: when whoever asks now took over; the one before may have asked until then."""
        self._settings = settings
        self._rng = rng
        self._interval_s = settings.interval_s
        self._next_at = begun_at + settings.interval_s
        self._failures = 0
        self.closed: str | None = None
        """Why the host is left alone until the next run."""

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may start."""
        return max(0.0, self._next_at - now)

    def slow_down(self, crawl_delay_s: float | None) -> None:
        """Obey a Crawl-delay that is longer than the interval."""
        self._interval_s = max(self._interval_s, min(crawl_delay_s or 0.0, MAX_CRAWL_DELAY_S))

    def asked(self, at: float) -> None:
        """The host had a request at `at` or before: when its answer began, which is the latest it can have come."""
        self._hold(at + self._interval_s)

    def back_off(self, now: float, attempt: int, retry_after_s: float | None) -> None:
        """After a failure: wait, the longer the more `attempt`s (from 0) there were, and as long as the host asks."""
        if retry_after_s is not None and retry_after_s > self._settings.max_wait_s:
            self.closed = f"Retry-After: {retry_after_s:.0f} s"
            return
        chance = 0.5 + self._rng.random()
        backoff_s = min(self._settings.backoff_s * 2.0 ** min(attempt, 30), self._settings.max_wait_s)
        self._hold(now + max(backoff_s * chance, retry_after_s or 0.0))

    def failed(self) -> None:
        """One thing asked for could not be had, however often it was asked."""
        self._failures += 1
        if self._failures >= self._settings.breaker_failures and self.closed is None:
            self.closed = f"{self._failures} failures in a row"

    def succeeded(self) -> None:
        self._failures = 0

    def _hold(self, until: float) -> None:
        self._next_at = max(self._next_at, until)
