"""Photos that moved from one host to another: a redirect is followed by whoever asks the other host.

The row at the old address says where to, the row at the new one what came of it. Knows nothing of how either
is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from crawl.fetching.target import Fetched, Target
from crawl.photo import Rejection
from crawl.policy.refusals import MAX_REDIRECTS, refusal


def moved_to(row: Fetched) -> Target | None:
    """The same photo at its new address; None for one that did not move."""
    if row.rejection is None or row.rejection.reason != "moved" or row.rejection.detail is None:
        return None
    return replace(row.target, image_url=row.rejection.detail)


def moved_targets(rows: Iterable[Fetched]) -> list[Target]:
    """What is to be asked of other hosts next."""
    return [target for row in rows if (target := moved_to(row)) is not None]


def settled(row: Fetched, find: Callable[[Target], Fetched | None]) -> Fetched:
    """What finally came of the row's target, following its moves through `find`.

    A move that nobody has followed yet stays `moved`, for the next run.
    """
    current, seen = row, [row.target.image_url]
    while (target := moved_to(current)) is not None:
        if target.image_url in seen:
            return _ended(row, refusal("redirect_loop"))
        if len(seen) > MAX_REDIRECTS:
            return _ended(row, refusal("too_many_redirects", len(seen), MAX_REDIRECTS))
        following = find(target)
        if following is None:
            return replace(current, target=row.target, retry=True)
        seen.append(target.image_url)
        current = following
    return replace(current, target=row.target)


def _ended(row: Fetched, rejection: Rejection) -> Fetched:
    return replace(row, rejection=rejection, retry=False)
