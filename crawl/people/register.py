"""Who may be listed: everybody once, nobody who may be under 18, all others counted with the reason.

Knows nothing of where names come from.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from datetime import date

from crawl.people.birth import latest_birth, surely_adult
from crawl.people.person import Person
from crawl.photo import Rejection, identity_key
from crawl.sources.listing import Unlisted

REASONS = {
    "no_name": "a row or an item without a name",
    "bad_name": "a name with a control character, or longer than 200 characters",
    "bad_qid": "not Q and a number",
    "bad_birth_date": "not a date, a month, a year or a decade",
    "under_18": "not 18 yet, or not for sure: a year alone counts as its last day",
    "no_birth_date": "nobody knows whether they are 18, and `adults_only` asks for it",
    "born_later": "not for sure born before `born_before`",
    "duplicate": "the same name again",
    "namesake": "the same name again, of another QID: photos of the two could not be told apart by name",
}
"""Why somebody is not listed; beside what `sources.listing` says of rows that cannot be read."""

_QID = re.compile(r"(?:https?://www\.wikidata\.org/(?:entity|wiki)/)?(Q[1-9][0-9]{0,11})")
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class People:
    """A list of people: whom photos are looked for, and who or what was left out."""

    listed: tuple[Person, ...]
    """In order of their names."""
    left_out: tuple[Unlisted, ...]
    """In the order found. Who may be a child is here without a name."""

    def counts(self) -> dict[str, int]:
        """reason → how many were left out for it, in order of the reasons."""
        return dict(sorted(Counter(u.rejection.reason for u in self.left_out).items()))


@dataclass(frozen=True, slots=True)
class Entrant:
    """Somebody as a list gives them."""

    where: str
    name: str
    basis: str
    qid: str = ""
    birth_date: str = ""
    occupation: str = ""


class Register:
    """Takes entrants in, one by one."""

    def __init__(self, source: str, today: date, adults_only: bool, born_before: date | None = None) -> None:
        """With `adults_only`, or `born_before`, people without a birth date are left out."""
        self._source = source
        self._today = today
        self._adults_only = adults_only
        self._born_before = born_before
        self._listed: dict[str, Person] = {}
        self._left_out: list[Unlisted] = []

    def __len__(self) -> int:
        return len(self._listed)

    def add(self, entrant: Entrant) -> None:
        """List somebody, or note why not."""
        name = " ".join(unicodedata.normalize("NFC", entrant.name).split())
        qid = _QID.fullmatch(entrant.qid)
        reason = _unusable(name) or ("bad_qid" if entrant.qid and not qid else None) or self._age(entrant.birth_date)
        person = Person(
            identity_key(name),
            name,
            entrant.basis,
            self._source,
            qid[1] if qid else None,
            entrant.birth_date or None,
            entrant.occupation or None,
        )
        reason = reason or self._again(person)
        if reason is None:
            self._listed[name] = person
        else:
            self.leave_out(Unlisted("" if reason == "under_18" else name, entrant.where, Rejection("crawl", reason)))

    def leave_out(self, unlisted: Unlisted) -> None:
        """Note something that is nobody, such as a row that cannot be read."""
        self._left_out.append(unlisted)

    def people(self) -> People:
        """Everybody so far."""
        return People(tuple(self._listed[name] for name in sorted(self._listed)), tuple(self._left_out))

    def _age(self, birth_date: str) -> str | None:
        if not birth_date:
            return "no_birth_date" if self._adults_only or self._born_before else None
        try:
            adult, latest = surely_adult(birth_date, self._today), latest_birth(birth_date)
        except ValueError:
            return "bad_birth_date"
        if not adult:
            return "under_18"
        return "born_later" if self._born_before and latest >= self._born_before else None

    def _again(self, person: Person) -> str | None:
        before = self._listed.get(person.name)
        if before is None:
            return None
        return "namesake" if before.qid and person.qid and before.qid != person.qid else "duplicate"


def _unusable(name: str) -> str | None:
    if not name:
        return "no_name"
    odd = any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)
    return "bad_name" if odd or len(name) > _MAX_NAME else None
