"""People from Wikidata: a SPARQL query by occupation, country and birth, page by page.

Knows the endpoint's JSON and its ways of running out of time; who may be listed is decided in `crawl.register`.
Query service: https://www.mediawiki.org/wiki/Wikidata_Query_Service/User_Manual
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from crawl.fetching.api import RETRIED, Api, NoAnswer, records_of, text_of
from crawl.people.birth import latest_birth
from crawl.people.config import WikidataPeople
from crawl.people.register import Entrant, People, Register

MIN_PAGE_SIZE = 10
_HEADERS = {"accept": "application/sparql-results+json"}
_OUT_OF_TIME = frozenset({"http_500", "http_504", "not_json"})
"""How the service says that a query took more than its 60 s: an error, a gateway's, or JSON that ends in a trace."""
_ENTITY = re.compile(r"https?://www\.wikidata\.org/entity/(Q[1-9][0-9]*)")
_TIME = re.compile(r"([+-]?)0*(\d{4,}-\d\d-\d\d)T.*")
_MONTH, _YEAR, _DECADE = 10, 9, 8
"""wikibase:timePrecision."""

_QUERY = """
SELECT ?person ?name ?occupation ?birth ?precision WHERE {{
  {{ SELECT DISTINCT ?person WHERE {{
    VALUES ?wanted {{ {occupations} }}
    ?person wdt:P31 wd:Q5 ; wdt:P106 ?wanted .
    {country}{links}{birth}
  }} ORDER BY ?person LIMIT {limit} OFFSET {offset} }}
  OPTIONAL {{ ?person rdfs:label ?name FILTER(LANG(?name) IN ({languages})) }}
  OPTIONAL {{
    VALUES ?held {{ {occupations} }}
    ?person wdt:P106 ?held . ?held rdfs:label ?occupation FILTER(LANG(?occupation) IN ({languages}))
  }}
  OPTIONAL {{
    ?person p:P569 ?statement . ?statement a wikibase:BestRank ; psv:P569 ?value .
    ?value wikibase:timeValue ?birth ; wikibase:timePrecision ?precision .
  }}
}} ORDER BY ?person
"""


@dataclass(slots=True)
class _Item:
    """What the rows of one person say together."""

    names: dict[str, set[str]] = field(default_factory=dict)
    """language → labels."""
    occupations: dict[str, set[str]] = field(default_factory=dict)
    births: set[str] = field(default_factory=set)


def people_of_wikidata(settings: WikidataPeople, today: date, api: Api) -> People:
    """Everybody who fits, up to `max_people`, in order of their QIDs' text; then in order of their names.

    A list cut short would look like a whole one: raises NoAnswer when the service stops answering.
    """
    register = Register("wikidata", today, settings.adults_only, settings.born_before)
    for qid, item in _items(settings, api):
        if settings.max_people is not None and len(register) >= settings.max_people:
            break
        register.add(_entrant(qid, item, settings.languages))
    return register.people()


def sparql(settings: WikidataPeople, limit: int, offset: int) -> str:
    """The query for one page. Everything from the configuration in it has been checked by its form."""
    countries = " ".join(f"wd:{qid}" for qid in settings.countries)
    day = f'"{settings.born_before}T00:00:00Z"^^xsd:dateTime'
    return _QUERY.format(
        occupations=" ".join(f"wd:{qid}" for qid in settings.occupations),
        country=f"VALUES ?country {{ {countries} }} ?person wdt:P27 ?country . " if countries else "",
        links=f"?person wikibase:sitelinks ?links FILTER(?links >= {settings.min_sitelinks}) "
        if settings.min_sitelinks
        else "",
        birth=f"OPTIONAL {{ ?person wdt:P569 ?day }} FILTER(!BOUND(?day) || !isLiteral(?day) || ?day < {day})"
        if settings.born_before
        else "",
        languages=", ".join(f'"{language}"' for language in settings.languages),
        limit=limit,
        offset=offset,
    )


def _items(settings: WikidataPeople, api: Api) -> Iterator[tuple[str, _Item]]:
    """Page after page. A page that takes too long is asked for again in halves."""
    offset, limit = 0, settings.page_size
    seen: set[str] = set()
    while True:
        try:
            page = _page(settings, api, limit, offset)
        except NoAnswer as error:
            if error.reason not in _OUT_OF_TIME or limit <= MIN_PAGE_SIZE:
                raise
            limit = max(limit // 2, MIN_PAGE_SIZE)
            continue
        new = [qid for qid in page if qid not in seen]
        yield from ((qid, page[qid]) for qid in new)
        seen.update(new)
        if len(page) < limit or not new:
            return
        offset += limit


def _page(settings: WikidataPeople, api: Api, limit: int, offset: int) -> dict[str, _Item]:
    parameters = {"query": sparql(settings, limit, offset), "format": "json"}
    document = api.json(settings.url, parameters, _HEADERS, retried=RETRIED - _OUT_OF_TIME)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict) or not isinstance(results.get("bindings"), list):
        raise NoAnswer(settings.url, "unexpected_answer", retry=True)
    items: dict[str, _Item] = {}
    for row in records_of(results["bindings"]):
        entity = _ENTITY.fullmatch(_value(row, "person"))
        if entity:
            _gather(items.setdefault(entity[1], _Item()), row)
    return items


def _gather(item: _Item, row: dict[str, Any]) -> None:
    for column, texts in (("name", item.names), ("occupation", item.occupations)):
        if _value(row, column):
            texts.setdefault(str(row[column].get("xml:lang")), set()).add(_value(row, column))
    birth = birth_of(_value(row, "birth"), _value(row, "precision"))
    if birth:
        item.births.add(birth)


def birth_of(time: str, precision: str) -> str | None:
    """`2008-01-01T00:00:00Z` of precision 9 → `2008`. None for what is vaguer than a decade, or no date."""
    form = _TIME.fullmatch(time)
    if not form or not precision.isdecimal() or int(precision) < _DECADE:
        return None
    text = (form[1] if form[1] == "-" else "") + form[2]
    if int(precision) == _DECADE:
        text = text[:-7] + "X" if len(text) == len("195X-00-00") and form[1] != "-" else text[:-6]
    else:
        text = text[: {_YEAR: -6, _MONTH: -3}.get(int(precision), len(text))]
    try:
        latest_birth(text)
    except ValueError:
        return None
    return text


def _entrant(qid: str, item: _Item, languages: Sequence[str]) -> Entrant:
    """Of several dates of birth the latest counts: who may be a child is treated as one."""
    birth_date = max(sorted(item.births), key=latest_birth, default="")
    occupation = ", ".join(sorted(_first(item.occupations, languages)))
    born = f"; born {birth_date}" if birth_date else ""
    basis = f"Wikidata {qid}: {occupation or 'an occupation without a name'}{born}"
    return Entrant(qid, min(_first(item.names, languages), default=""), basis, qid, birth_date, occupation)


def _first(texts: dict[str, set[str]], languages: Sequence[str]) -> set[str]:
    """What there is in the first language that has any."""
    return next((texts[language] for language in languages if language in texts), set())


def _value(row: dict[str, Any], column: str) -> str:
    cell = row.get(column)
    return (text_of(cell.get("value")) if isinstance(cell, dict) else None) or ""
