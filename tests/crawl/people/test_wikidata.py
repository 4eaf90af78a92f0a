"""A Wikidata query against an endpoint that pages, limits and runs out of time as the real one does."""

import json
import re
from datetime import UTC, date, datetime
from random import Random

import pytest
from pydantic import ValidationError

from crawl.fetching.api import Answer, Api, NoAnswer
from crawl.people.config import WikidataPeople
from crawl.people.lists import list_people
from crawl.people.wikidata import birth_of, sparql

TODAY = date(2026, 3, 1)
ENTITY = "http://www.wikidata.org/entity/"
ACTOR = "Q33999"


def literal(text, language=None, kind=None):
    extra = {"xml:lang": language} if language else {"datatype": f"http://www.w3.org/2001/XMLSchema#{kind}"}
    return {"type": "literal", "value": text} | extra


def row(qid, name="", birth="", precision=11, occupation="actor", language="en"):
    """One binding, columns left out where the query's OPTIONAL found nothing."""
    columns = {"person": {"type": "uri", "value": ENTITY + qid}}
    if name:
        columns["name"] = literal(name, language)
    if occupation:
        columns["occupation"] = literal(occupation, "en")
    if birth:
        columns["birth"] = literal(birth, kind="dateTime")
        columns["precision"] = literal(str(precision), kind="integer")
    return columns


class Endpoint:
    """Serves rows of people by LIMIT and OFFSET, in order of the people; queries over `most` run out of time."""

    def __init__(self, rows, most=10_000, trouble=()):
        self.people = sorted({r["person"]["value"] for r in rows})
        self.rows = rows
        self.most = most
        self.trouble = list(trouble)
        self.asked = []
        self.slept = []

    def get(self, url, parameters, headers):
        query = parameters["query"]
        limit, offset = (int(re.search(rf"{word} (\d+)", query)[1]) for word in ("LIMIT", "OFFSET"))
        self.asked.append((limit, offset))
        assert headers["accept"] == "application/sparql-results+json"
        if self.trouble:
            return self.trouble.pop(0)
        if limit > self.most:
            return Answer(500, {}, b"SPARQL-QUERY: queryStr=...\njava.util.concurrent.TimeoutException\n\tat ...")
        page = self.people[offset : offset + limit]
        return results([r for person in page for r in self.rows if r["person"]["value"] == person])

    def people_of(self, **options):
        settings = WikidataPeople(list="wikidata", occupations=[ACTOR], **options)
        now = datetime(2026, 3, 1, tzinfo=UTC)
        return list_people(settings, TODAY, Api(self.get, self.slept.append, lambda: now, Random(0)))


def results(bindings):
    document = {"head": {"vars": ["person", "name"]}, "results": {"bindings": bindings}}
    return Answer(200, {"content-type": "application/sparql-results+json"}, json.dumps(document).encode())


def many(count):
    return [row(f"Q{1000 + n}", f"Person {n:03}", "1970-01-02T00:00:00Z") for n in range(count)]


def test_a_person_with_everything():
    rows = [row("Q42", "Ada Actor", "1952-03-11T00:00:00Z", occupation=o) for o in ("writer", "actor")]
    (person,) = Endpoint(rows).people_of().listed
    assert (person.name, person.qid, person.birth_date, person.occupation, person.source) == (
        "Ada Actor", "Q42", "1952-03-11", "actor, writer", "wikidata",
    )  # fmt: skip
    assert person.basis == "Wikidata Q42: actor, writer; born 1952-03-11"


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 60])
def test_every_page_is_asked_for_and_nobody_twice(count):
    endpoint = Endpoint([*many(count), row("Q9", "Zed", "1970-01-02T00:00:00Z")])
    found = endpoint.people_of(page_size=20)
    assert [p.name for p in found.listed] == [f"Person {n:03}" for n in range(count)] + ["Zed"]
    assert endpoint.asked == [(20, offset) for offset in range(0, count + 2, 20)]
    assert found.left_out == ()


def test_max_people_are_the_first_by_qid():
    endpoint = Endpoint(many(60))
    assert len(endpoint.people_of(page_size=20, max_people=25).listed) == 25
    assert len(endpoint.asked) == 2


def test_children_and_people_of_unknown_age_are_counted():
    rows = [
        row("Q1", "Grown", "2008-03-01T00:00:00Z"),
        row("Q2", "Child", "2008-03-02T00:00:00Z"),
        row("Q3", "Year Only", "2008-01-01T00:00:00Z", precision=9),
        row("Q4", "Month Only", "2008-03-01T00:00:00Z", precision=10),
        row("Q5", "Unknown"),
        row("Q6", "Vague", "1900-01-01T00:00:00Z", precision=7),
        row("Q7", "Decade", "1950-01-01T00:00:00Z", precision=8),
        row("Q8", "Two Dates", "1990-01-01T00:00:00Z"),
        row("Q8", "Two Dates", "2010-05-01T00:00:00Z"),
        row("Q10", "", "1970-01-01T00:00:00Z"),
    ]
    found = Endpoint(rows).people_of()
    assert [(p.name, p.birth_date) for p in found.listed] == [("Decade", "195X"), ("Grown", "2008-03-01")]
    assert found.counts() == {"no_birth_date": 2, "no_name": 1, "under_18": 4}
    everybody = Endpoint(rows).people_of(adults_only=False)
    assert [p.name for p in everybody.listed] == ["Decade", "Grown", "Unknown", "Vague"]
    assert everybody.counts() == {"no_name": 1, "under_18": 4}


def test_born_before_is_held_to_even_where_the_query_was_generous():
    rows = [
        row("Q1", "Before", "1979-12-31T00:00:00Z"),
        row("Q2", "On The Day", "1980-06-01T00:00:00Z"),
        row("Q3", "Perhaps", "1980-01-01T00:00:00Z", precision=9),
        row("Q4", "Unknown"),
    ]
    found = Endpoint(rows).people_of(born_before=date(1980, 6, 1), adults_only=False)
    assert [p.name for p in found.listed] == ["Before"]
    assert found.counts() == {"born_later": 2, "no_birth_date": 1}


def test_a_name_is_in_the_first_language_that_has_one():
    rows = [
        row("Q1", "Beide", "1970-01-01T00:00:00Z", language="mul"),
        row("Q1", "Both", "1970-01-01T00:00:00Z"),
        row("Q2", "Only Mul", "1970-01-01T00:00:00Z", language="mul"),
    ]
    assert [p.name for p in Endpoint(rows).people_of().listed] == ["Both", "Only Mul"]
    assert [p.name for p in Endpoint(rows).people_of(languages=["mul", "en"]).listed] == ["Beide", "Only Mul"]


def test_namesakes_are_counted():
    rows = [row("Q1", "Ada", "1970-01-01T00:00:00Z"), row("Q2", "Ada", "1971-01-01T00:00:00Z")]
    found = Endpoint(rows).people_of()
    assert [p.qid for p in found.listed] == ["Q1"]
    assert [(u.where, u.rejection.reason) for u in found.left_out] == [("Q2", "namesake")]


def test_a_page_that_takes_too_long_is_asked_for_in_halves():
    endpoint = Endpoint(many(60), most=25)
    assert len(endpoint.people_of(page_size=100).listed) == 60
    assert endpoint.asked == [(100, 0), (50, 0), (25, 0), (25, 25), (25, 50)]
    assert endpoint.slept == []


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(504, {}, b"upstream request timeout"),
        Answer(200, {}, b'{"head": {"vars": []}, "results": {"bindings": [ java.util.concurrent.TimeoutException'),
    ],
    ids=["gateway", "cut short"],
)
def test_other_ways_to_run_out_of_time(trouble):
    endpoint = Endpoint(many(30), trouble=[trouble])
    assert len(endpoint.people_of(page_size=100).listed) == 30
    assert endpoint.asked == [(100, 0), (50, 0)]


def test_throttling_is_waited_out():
    endpoint = Endpoint(many(3), trouble=[Answer(429, {"retry-after": "61"}, b"Too Many Requests")])
    assert len(endpoint.people_of().listed) == 3
    assert 61 <= endpoint.slept[0] < 80


@pytest.mark.parametrize(
    ("trouble", "reason", "retry"),
    [
        (Answer(500, {}, b"java.util.concurrent.TimeoutException"), "http_500", True),
        (Answer(400, {}, b"MalformedQueryException"), "http_400", False),
        (Answer(403, {}, b"set a user agent"), "http_403", False),
        (Answer(429, {"retry-after": "86400"}, b"banned"), "http_429", True),
        (Answer(200, {}, b'{"boolean": true}'), "unexpected_answer", True),
        (Answer(200, {}, b"[]"), "unexpected_answer", True),
    ],
)
def test_half_a_list_is_no_list(trouble, reason, retry):
    good = results(many(20))
    with pytest.raises(NoAnswer) as error:
        Endpoint([], trouble=[good, *[trouble] * 20]).people_of(page_size=20)
    assert (error.value.reason, error.value.retry) == (reason, retry)


def test_an_endpoint_that_ignores_offset_ends():
    endpoint = Endpoint([], trouble=[results(many(20))] * 5)
    assert len(endpoint.people_of(page_size=20).listed) == 20
    assert len(endpoint.asked) == 2


def test_rows_of_another_shape_are_passed_over():
    odd = [{}, {"person": "Q1"}, {"person": {"value": 7}}, {"person": {"value": "http://evil.example/Q1"}}, None, [1]]
    endpoint = Endpoint([], trouble=[results([*odd, *many(1)])])
    assert [p.name for p in endpoint.people_of().listed] == ["Person 000"]


def test_the_query_holds_what_was_asked_for():
    settings = WikidataPeople(
        list="wikidata",
        occupations=[ACTOR, "Q177220"],
        countries=["Q30"],
        born_before="1990-05-01",
        min_sitelinks=10,
    )
    query = sparql(settings, 500, 1000)
    for part in (
        "VALUES ?wanted { wd:Q33999 wd:Q177220 }",
        "wdt:P31 wd:Q5",
        "VALUES ?country { wd:Q30 } ?person wdt:P27 ?country",
        "FILTER(?links >= 10)",
        '?day < "1990-05-01T00:00:00Z"^^xsd:dateTime',
        "ORDER BY ?person LIMIT 500 OFFSET 1000",
        'IN ("en", "mul")',
    ):
        assert part in query
    assert query.count("{") == query.count("}")
    plain = sparql(WikidataPeople(list="wikidata", occupations=[ACTOR]), 10, 0)
    assert not any(word in plain for word in ("P27", "sitelinks", "?day", "None"))
    assert plain.count("{") == plain.count("}")


@pytest.mark.parametrize(
    "options",
    [
        {"occupations": []},
        {"occupations": ["Q1 } DROP"]},
        {"occupations": ["33999"]},
        {"occupations": [ACTOR], "countries": ["Germany"]},
        {"occupations": [ACTOR], "languages": ['en" )']},
        {"occupations": [ACTOR], "languages": []},
        {"occupations": [ACTOR], "born_before": "long ago"},
        {"occupations": [ACTOR], "url": "https://query.wikidata.org/sparql?x=1"},
    ],
)
def test_nothing_else_gets_into_the_query(options):
    with pytest.raises(ValidationError):
        WikidataPeople(list="wikidata", **options)


@pytest.mark.parametrize(
    ("time", "precision", "birth"),
    [
        ("1952-03-11T00:00:00Z", "11", "1952-03-11"),
        ("1952-03-01T00:00:00Z", "10", "1952-03"),
        ("1952-01-01T00:00:00Z", "9", "1952"),
        ("1950-01-01T00:00:00Z", "8", "195X"),
        ("1950-01-01T00:00:00Z", "7", None),
        ("+1952-03-11T00:00:00Z", "11", "1952-03-11"),
        ("+00000001952-03-11T00:00:00Z", "11", "1952-03-11"),
        ("-0044-03-15T00:00:00Z", "11", "-0044-03-15"),
        ("-0040-01-01T00:00:00Z", "8", "-0040"),
        ("13798000000-01-01T00:00:00Z", "9", None),
        ("1952-03-11T00:00:00Z", "", None),
        ("http://www.wikidata.org/.well-known/genid/0a1b", "11", None),
        ("1952-02-30T00:00:00Z", "11", None),
        ("", "11", None),
    ],
)
def test_birth_is_as_exact_as_its_precision(time, precision, birth):
    assert birth_of(time, precision) == birth
