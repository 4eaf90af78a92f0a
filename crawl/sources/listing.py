"""What a source lists: targets, and beside them whatever it saw and did not pass on, with the reason.

Each photo of a person comes through once, if its licence is allowed and the person has room. Knows nothing
of any one source, and fetches nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from crawl.fetching.api import NoAnswer
from crawl.fetching.target import Target
from crawl.people.person import Person
from crawl.photo import Rejection
from crawl.policy.canonical import BadUrl, canonical
from crawl.sources.licence import licence_allowed

REASONS = {
    "no_name": "a row that names nobody",
    "no_url": "a row or an answer without an image URL",
    "not_http": "an image URL that is not http or https",
    "bad_url": "an image URL that cannot be read as one, or that holds a password",
    "duplicate": "the same name and the same canonical URL were listed before",
    "licence_not_allowed": "not in `allowed_licences`; detail: the licence, or `unknown`",
    "max_photos": "the person has that many already; threshold: `max_photos`",
    "malformed": "lines that are no CSV, or a row of another length; detail: why",
    "encoding": "a row that is not UTF-8",
    "format": "not JPEG, PNG or WebP; detail: what it is",
    "too_small": "value: short side in pixels; threshold: `min_side_px`",
    "non_free": "the source itself marks the file as not free",
    "no_qid": "the query asks for a QID, and the person has none",
    "page_depth": "the source shows no deeper page of this query; threshold: the last page it gave, or `max_pages`",
    "no_such_person": "the gallery lists nobody of this name",
    "namesake": "another link of a person's name: the first one counts, the other may be another person",
    "too_few_photos": "value: photos that the person's page speaks of; threshold: `min_photos`",
    "nothing_found": "a page on which a selector finds nothing; detail: the key with the selector",
    "other_host": "a link to a page on a host that is not among `hosts`; not followed",
    "not_a_page": "an answer that is not HTML; detail: its Content-Type",
    "opted_out": "the page keeps itself, and what it shows, out of datasets; detail: the signal",
    "taken_down": "its address or its person was taken down from this dataset; nothing else is kept of it",
    "listing_failed": "the source stopped answering; detail: why. What it listed before that is kept",
}
"""Why something a source saw is no target, and what that means."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Something a source saw and did not turn into a photo to fetch."""

    name: str
    """The person, "" when that is not known."""
    where: str
    """`line 7` of the file, the photo's page or URL, or the API that was asked."""
    rejection: Rejection
    retry: bool = False
    """Whether the next run may have more luck."""


class Limits(Protocol):
    """What a user may set for every source that lists targets."""

    @property
    def max_photos(self) -> int | None: ...
    @property
    def allowed_licences(self) -> Sequence[str] | None: ...


def unlisted(
    name: str,
    where: str,
    reason: str,
    value: float | None = None,
    threshold: float | None = None,
    detail: str | None = None,
) -> Unlisted:
    """An Unlisted for one of REASONS."""
    assert reason in REASONS, reason
    return Unlisted(name, where, Rejection("crawl", reason, value, threshold, detail))


class Sieve:
    """Lets a target through once. Remembers 16 bytes for each name and URL it let through."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen: set[int] = set()
        self._counts: Counter[str] = Counter()

    def full(self, name: str) -> bool:
        """Whether the person has all the photos that are wanted."""
        return self._limits.max_photos is not None and self._counts[name] >= self._limits.max_photos

    def sift(self, target: Target, where: str) -> Target | Unlisted:
        try:
            key = _key(target.name, canonical(target.image_url))
        except BadUrl as error:
            return unlisted(target.name, where, error.reason)
        if key in self._seen:
            return unlisted(target.name, where, "duplicate")
        if not licence_allowed(target.licence, self._limits.allowed_licences):
            return unlisted(target.name, where, "licence_not_allowed", detail=target.licence or "unknown")
        if self.full(target.name):
            return unlisted(target.name, where, "max_photos", threshold=self._limits.max_photos)
        self._seen.add(key)
        self._counts[target.name] += 1
        return target if _is_web(target.page_url) else dataclasses.replace(target, page_url=None)


def listed(person: Person, candidates: Iterable[Target | Unlisted], limits: Limits) -> Iterator[Target | Unlisted]:
    """One person's candidates through a sieve, up to `max_photos`; a source that stops answering is the last entry."""
    sieve = Sieve(limits)
    try:
        for candidate in candidates:
            if isinstance(candidate, Target):
                yield sieve.sift(candidate, candidate.page_url or candidate.image_url)
            else:
                yield candidate
            if sieve.full(person.name):
                return
    except NoAnswer as error:
        failed = Rejection("crawl", "listing_failed", detail=error.reason)
        yield Unlisted(person.name, error.url, failed, retry=error.retry)


def query_for(person: Person, template: str) -> str | None:
    """`{name}` and `{qid}` filled in; None when the person has no QID and one is asked for.

    Quotation marks in a name would end a quoted phrase: they become spaces.
    """
    if "{qid}" in template and person.qid is None:
        return None
    name = " ".join(person.name.replace('"', " ").split())
    return template.replace("{qid}", person.qid or "").replace("{name}", name)


def _is_web(page_url: str | None) -> bool:
    """A page's URL is shown to people: `javascript:` and its like end here."""
    return page_url is None or page_url.lower().startswith(("http://", "https://"))


def _key(name: str, url: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}\0{url}".encode("utf-8", "surrogatepass")).digest()[:16])
