"""Lists of people in files: a text file with one name a line, or a CSV (or Parquet) file.

Knows nothing of photos. Who may be listed is decided in `crawl.register`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from crawl.errors import InputError
from crawl.fetching.api import Api
from crawl.people.config import CsvPeople, PeopleSettings, TextPeople, WikidataPeople
from crawl.people.register import Entrant, People, Register
from crawl.people.wikidata import people_of_wikidata
from crawl.sources.listing import Unlisted, unlisted
from crawl.sources.rows import Columns, Row, rows

ALIASES = {
    "name": ("name", "person", "identity", "label", "personLabel", "itemLabel"),
    "qid": ("qid", "wikidata", "wikidata_id", "item"),
    "birth_date": ("birth_date", "birthdate", "date_of_birth", "born", "birth", "dob"),
    "occupation": ("occupation", "occupationLabel", "profession"),
    "basis": ("basis", "legal_basis"),
}
"""field → column names it is looked for under."""


def list_people(settings: PeopleSettings, today: date, api: Api) -> People:
    """Everybody on the list that a run file names. `api` is asked only for a Wikidata query.

    Raises InputError when the file cannot be read or nobody is left, NoAnswer when Wikidata does not answer.
    """
    if isinstance(settings, WikidataPeople):
        where, people = "crawl.people", people_of_wikidata(settings, today, api)
    elif isinstance(settings, CsvPeople):
        where, people = settings.path, people_of_table(settings, today)
    else:
        where, people = settings.path, people_of_text(settings, today)
    if not people.listed:
        why = ", ".join(f"{count} {reason}" for reason, count in people.counts().items()) or "it is empty"
        raise InputError(f"{where}: nobody to look for: {why}")
    return people


def people_of_text(settings: TextPeople, today: date) -> People:
    """One name a line; empty lines and lines that start with # are skipped."""
    register = Register("text", today, adults_only=False)
    for where, line in _lines(settings.path):
        try:
            name = line.decode().strip()
        except UnicodeDecodeError:
            register.leave_out(unlisted("", where, "encoding"))
            continue
        if name and not name.startswith("#"):
            register.add(Entrant(where, name, settings.basis))
    return register.people()


def people_of_table(settings: CsvPeople, today: date) -> People:
    """The rows of a CSV or Parquet file; a row without a basis has the list's."""
    register = Register("csv", today, settings.adults_only)
    named = {str(field): column for field, column in settings.columns.items()}
    columns = Columns(ALIASES, ("name",), named, "crawl.people.columns")
    for row in rows(settings.path, columns, settings.delimiter):
        if isinstance(row, Unlisted):
            register.leave_out(row)
        else:
            register.add(_entrant(row, settings.basis))
    return register.people()


def _entrant(row: Row, basis: str) -> Entrant:
    values = {field: row.values.get(field, "") for field in ALIASES}
    return Entrant(
        row.where,
        values["name"],
        values["basis"] or basis,
        values["qid"],
        values["birth_date"],
        values["occupation"],
    )


def _lines(path: str) -> Iterator[tuple[str, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield f"line {number}", line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
