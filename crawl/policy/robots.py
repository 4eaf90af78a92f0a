"""robots.txt as RFC 9309 has it: what one host's answer lets this crawler fetch, and how slowly.

Knows answers, not how they were had: redirects, caching and retries are the fetcher's. Rules are
matched by Protego, the parser of Scrapy. Nothing switches any of it off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from protego import Protego

MAX_BYTES = 500 * 1024
"""What is read of a robots.txt (RFC 9309, 2.5); the rest is not looked at, and no reason to refuse the host."""

_COME_BACK_LATER = (408, 429)
"""Of the 4xx those that say nothing of robots.txt: a timeout and "too many requests"."""
_AGENT_LINE = re.compile(r"^([ \t]*user[- \t]?agent[ \t]*:)([^#\r\n]*)", re.IGNORECASE | re.MULTILINE)
_NO_ONE = "!"
"""Stands for every other crawler: no product token can hold it."""


@dataclass(frozen=True, slots=True)
class Robots:
    """What a host allows."""

    unreachable: bool
    """Nobody knows what the host allows, so nothing is: the host is left alone in this run."""
    crawl_delay_s: float | None = None
    """As the host asks, finite and ≥ 0; uncapped."""
    _token: str = field(default="", repr=False)
    _rules: Protego | None = field(default=None, repr=False)

    @classmethod
    def from_answer(cls, status: int | None, body: bytes, agent: str) -> Robots:
        """`status` of the last answer, after redirects; None for no answer: refused, reset, timeout, no such name.

        2xx: the rules in `body`. 4xx: there is no robots.txt, all is allowed. Anything else, a redirect
        that leads nowhere among them: unreachable (RFC 9309, 2.3.1; where it says MAY, the strict way).
        """
        if status is not None and 200 <= status < 300:
            return cls._parse(body, product_token(agent))
        return cls(unreachable=status is None or not 400 <= status < 500 or status in _COME_BACK_LATER)

    @classmethod
    def _parse(cls, body: bytes, token: str) -> Robots:
        rules = Protego.parse(_seen_by(token, _text(body)))
        return cls(unreachable=False, crawl_delay_s=rules.crawl_delay(token), _token=token, _rules=rules)

    def allows(self, url: str) -> bool:
        """Whether this crawler may fetch the URL; robots.txt itself always, unless the host is unreachable."""
        if self.unreachable or self._rules is None:
            return not self.unreachable
        try:
            return self._rules.can_fetch(url, self._token)
        except ValueError:  # not a URL
            return False


@lru_cache(maxsize=16)
def product_token(agent: str) -> str:
    """The name a user agent goes by, lower case: `personae` of `Personae/0.1 (+https://…)`."""
    name = re.search(r"compatible;\s*([\w-]+)", agent) or re.match(r"\s*([\w-]+)", agent)
    return name[1].lower() if name else ""


def _text(body: bytes) -> str:
    if len(body) >= MAX_BYTES:  # whoever cut it, here or while reading: a line that is cut would be another rule
        body = body[:MAX_BYTES].rpartition(b"\n")[0] or body[:MAX_BYTES]
    return "\n".join(body.decode("utf-8-sig", "replace").splitlines())


def _seen_by(token: str, text: str) -> str:
    """The same file with every group ours, everybody's, or of no concern.

    Protego takes the group `person` for a crawler called `personae`, and does not take `Personae/1.0`; the
    RFC compares product tokens.
    """

    def rename(line: re.Match[str]) -> str:
        names = re.findall(r"[^\s,;/()]+", line[2].lower())
        return f"{line[1]} {token if token in names else '*' if '*' in names else _NO_ONE}"

    return _AGENT_LINE.sub(rename, text)
