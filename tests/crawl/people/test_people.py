"""Lists of people: everybody once, in one order, with a basis; nobody who may be a child; all others counted."""

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from crawl.errors import InputError
from crawl.people import register
from crawl.people.birth import latest_birth, surely_adult
from crawl.people.config import PeopleSettings
from crawl.people.lists import list_people
from crawl.people.person import Person
from crawl.photo import identity_key
from crawl.sources import listing

TODAY = date(2026, 3, 1)


@pytest.fixture
def people(tmp_path):
    def read(kind, content, **options):
        path = tmp_path / "people.list"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        settings = TypeAdapter(PeopleSettings).validate_python({"list": kind, "path": str(path), **options})
        return list_people(settings, TODAY, None)

    return read


def names(found):
    return [person.name for person in found.listed]


def left_out(found):
    return [(u.where, u.name, u.rejection.reason) for u in found.left_out]


def test_text_one_name_a_line(people):
    found = people("text", "\ufeff# our people\nGrace Hopper\r\n\n  Ada   Lovelace \n#Nobody\n", basis="consent given")
    assert found.listed == (
        Person(identity_key("Ada Lovelace"), "Ada Lovelace", "consent given", "text"),
        Person(identity_key("Grace Hopper"), "Grace Hopper", "consent given", "text"),
    )
    assert found.counts() == {}


def test_names_are_one_however_they_are_spelt(people):
    found = people("text", "Zoe\u0308\nZo\u00eb\nBob\nBob \nbob\n")
    assert names(found) == ["Bob", "Zo\u00eb", "bob"]
    assert left_out(found) == [("line 2", "Zo\u00eb", "duplicate"), ("line 4", "Bob", "duplicate")]


def test_the_order_of_the_lines_changes_nothing(people):
    assert people("text", "C\nA\nB\n").listed == people("text", "B\nC\nA\n").listed


def test_bad_lines_are_counted(people):
    found = people("text", b"Ada\nB\xe9b\nC\x07d\n" + b"x" * 201 + b"\n" + b"y" * 200)
    assert names(found) == ["Ada", "y" * 200]
    assert [(where, reason) for where, _, reason in left_out(found)] == [
        ("line 2", "encoding"), ("line 3", "bad_name"), ("line 4", "bad_name"),
    ]  # fmt: skip
    assert found.counts() == {"bad_name": 2, "encoding": 1}


def test_csv(people):
    found = people(
        "csv",
        "name,qid,birth_date,occupation,basis\n"
        "Ada Lovelace,Q7259,1815-12-10,mathematician,public figure\n"
        "Bob,http://www.wikidata.org/entity/Q1,1980,,\n",
        basis="agreed",
    )
    assert found.listed == (
        Person(
            identity_key("Ada Lovelace"),
            "Ada Lovelace",
            "public figure",
            "csv",
            "Q7259",
            "1815-12-10",
            "mathematician",
        ),
        Person(identity_key("Bob"), "Bob", "agreed", "csv", "Q1", "1980"),
    )


def test_a_file_saved_from_the_query_service(people):
    found = people("csv", "item,itemLabel,dob\nhttp://www.wikidata.org/entity/Q5,Ada,1950-04-01T00:00:00Z\n")
    assert [(p.name, p.qid, p.birth_date) for p in found.listed] == [("Ada", "Q5", "1950-04-01T00:00:00Z")]


def test_parquet_is_a_table_too(tmp_path, people):
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": ["Ada", "Kid"], "birth_date": [date(1980, 1, 2), date(2015, 1, 2)]}), path)
    found = people("csv", path.read_bytes())
    assert [(p.name, p.birth_date) for p in found.listed] == [("Ada", "1980-01-02")]


def test_children_are_never_listed_and_never_named(people):
    content = (
        "name,birth_date\nAda,1980-05-05\nKid,2008-03-02\nGrown,2008-03-01\nPerhaps,2008\nNobody Knows,\nOdd,soon\n"
    )
    for adults_only in (True, False):
        found = people("csv", content, adults_only=adults_only)
        assert names(found) == (["Ada", "Grown"] if adults_only else ["Ada", "Grown", "Nobody Knows"])
        assert [(where, name) for where, name, reason in left_out(found) if reason == "under_18"] == [
            ("line 3", ""), ("line 5", ""),
        ]  # fmt: skip
    assert people("csv", content).counts() == {"bad_birth_date": 1, "no_birth_date": 1, "under_18": 2}


def test_namesakes_are_told_apart_by_qid_and_only_the_first_is_listed(people):
    found = people("csv", "name,qid\nAda,Q1\nAda,Q2\nAda,Q1\nAda,\nBob,x9\n", adults_only=False)
    assert [(p.name, p.qid) for p in found.listed] == [("Ada", "Q1")]
    assert [reason for _, _, reason in left_out(found)] == ["namesake", "duplicate", "duplicate", "bad_qid"]


def test_rows_that_cannot_be_read_are_counted(people):
    found = people("csv", 'name,birth_date\nAda,1980\nBob,"1980"x\n,1980\n')
    assert names(found) == ["Ada"]
    assert left_out(found) == [("line 3", "", "malformed"), ("line 4", "", "no_name")]


def test_reasons_are_documented(people):
    found = people("csv", "name,qid,birth_date\nAda,,1980\nAda,,1980\n,,\nBob,x,\nC,,x\nD,,2020\nE,,\nF\x07,,\n")
    assert set(found.counts()) <= set(register.REASONS) | set(listing.REASONS)
    assert len(found.counts()) == 7


def test_nobody_left_is_said_with_the_reasons(people):
    with pytest.raises(InputError, match=r"people\.list: nobody to look for: 2 no_birth_date$"):
        people("csv", "name\nAda\nBob\n")
    with pytest.raises(InputError, match="nobody to look for: it is empty"):
        people("text", "# none\n")


def test_no_file(tmp_path):
    settings = TypeAdapter(PeopleSettings).validate_python({"list": "text", "path": str(tmp_path / "no.txt")})
    with pytest.raises(InputError, match=r"no\.txt: cannot be read: No such file"):
        list_people(settings, TODAY, None)


@pytest.mark.parametrize(
    ("text", "latest"),
    [
        ("1952-03-11", date(1952, 3, 11)),
        ("1952-02", date(1952, 2, 29)),
        ("1952", date(1952, 12, 31)),
        ("195X", date(1959, 12, 31)),
        ("1952-00-00", date(1952, 12, 31)),
        ("1952-03-00", date(1952, 3, 31)),
        ("1952-03-11T00:00:00Z", date(1952, 3, 11)),
        ("1952-01-01T00:00:00Z", date(1952, 12, 31)),
        ("1952-01-01", date(1952, 1, 1)),
        ("+1952-03-11", date(1952, 3, 11)),
        ("-0044-03-15", date.min),
        ("0000", date.min),
        ("0001", date(1, 12, 31)),
    ],
)
def test_the_latest_day_somebody_can_have_been_born(text, latest):
    assert latest_birth(text) == latest


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "11.03.1952", "52", "1952-13", "1952-02-30", "1952-3-1", "19521", "1952 ", "1952-03-11 AD"],
)
def test_what_is_no_date_of_birth(text):
    with pytest.raises(ValueError, match=r"date|month|day|year|range"):
        latest_birth(text)


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(0, 50_000))
def test_adults_have_had_their_eighteenth_birthday(birth, days):
    today = birth + timedelta(days=days)
    try:
        birthday = birth.replace(year=birth.year + 18)
    except ValueError:
        birthday = date(birth.year + 18, 3, 1)
    assert surely_adult(birth.isoformat(), today) == (today >= birthday)


@given(st.dates(date(1900, 1, 1), date(2060, 1, 1)), st.sampled_from([4, 7]))
def test_less_is_known_nobody_is_older_for_it(birth, digits):
    text = birth.isoformat()
    assert surely_adult(text, TODAY) or not surely_adult(text[:digits], TODAY)
    assert surely_adult(text, TODAY) or not surely_adult(text[:3] + "X", TODAY)
