"""Settings of the lists of people: one model each, told apart by one key: `crawl.people.list: csv` chooses CsvPeople.

Knows nothing of how any of them is read.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from crawl.source_config import Address, Delimiter, Settings

Qid = Annotated[str, Field(pattern=r"^Q[1-9][0-9]{0,11}$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]{2,8}){0,2}$")]


class TextPeople(Settings):
    """A text file, one name a line."""

    list: Literal["text"]
    path: str = Field(min_length=1, description="UTF-8; lines that start with # are comments.")
    basis: str = Field("list of names supplied by the user", min_length=1, description="See `crawl.basis`.")


class CsvPeople(Settings):
    """A CSV or Parquet file, one person a row."""

    list: Literal["csv"]
    path: str = Field(min_length=1, description="Columns: name, and where known qid, birth_date, occupation, basis.")
    columns: dict[Literal["name", "qid", "birth_date", "occupation", "basis"], str] = Field(
        {}, description="Column of a field where its name is none of the usual ones."
    )
    delimiter: Delimiter = Field(",", description="Between the fields of a CSV file.")
    basis: str = Field("list of names supplied by the user", min_length=1, description="Of rows that name none.")
    adults_only: bool = Field(True, description="Leave out people without a birth date. Known minors always are.")


class WikidataPeople(Settings):
    """A Wikidata query."""

    list: Literal["wikidata"]
    occupations: tuple[Qid, ...] = Field(min_length=1, description="Any of these, such as [Q33999] for actors.")
    countries: tuple[Qid, ...] = Field((), description="Citizens of any of these; empty: of any country.")
    born_before: date | None = Field(None, description="Only people born before this day for sure.")
    min_sitelinks: int = Field(0, ge=0, description="Only people with articles in so many wikis: how well known.")
    languages: tuple[Language, ...] = Field(("en", "mul"), min_length=1, description="Of names: the first there is.")
    adults_only: bool = Field(True, description="Leave out people without a birth date. Known minors always are.")
    max_people: int | None = Field(1000, ge=1, description="In order of their QIDs' text; null: all there are.")
    page_size: int = Field(500, ge=10, le=10_000, description="People asked for in one request.")
    url: Address = Field("https://query.wikidata.org/sparql", description="The SPARQL endpoint.")


PeopleSettings = Annotated[TextPeople | CsvPeople | WikidataPeople, Field(discriminator="list")]
PEOPLE: dict[str, type[Settings]] = {"text": TextPeople, "csv": CsvPeople, "wikidata": WikidataPeople}
"""By their `list`."""
