"""The TDM Reservation Protocol: header, file, and which of them counts."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.policy.tdm import MAX_BYTES, Tdm, _path, _pattern, declared_in_headers, tdm_reserved


def file(*rules):
    entries = [{"location": location, "tdm-reservation": reserved} for location, reserved in rules]
    return Tdm.from_answer(200, json.dumps(entries).encode())


def reserves(location, path):
    return file((location, 1)).reserves(f"http://a.test{path}")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/", "/"),
        ("/", ""),
        ("/", "/any/thing.jpg?x=1"),
        ("/photos/", "/photos/1.jpg"),
        ("/photo", "/photos/1.jpg"),
        ("/photos/*.jpg", "/photos/a/b.jpg"),
        ("/photos/*.jpg", "/photos/b.jpg?size=1"),
        ("/photos/*.jpg$", "/photos/b.jpg.jpg"),
        ("*.jpg", "/photos/b.jpg"),
        ("*", "/photos"),
        ("/*/full/*$", "/a/full/1"),
        ("/this$", "/this"),
        ("/*a*b*c$", "/xaybzc"),
        ("/path/foo-%24", "/path/foo-$"),
        ("/path/foo-%2A", "/path/foo-*"),
        ("/pri$ce", "/pri$ce/1"),
        ("/a?b", "/a?b=1"),
        ("/%7Eme/", "/~me/1"),
        ("/~me/", "/%7eme/1"),
        ("/café/", "/caf%c3%a9/1"),
        ("/caf%C3%A9/", "/café/1"),
        ("photos/", "/photos/1"),
        ("https://a.test/photos/", "/photos/1"),
        ("https://a.test", "/photos/1"),
        (" /photos/ ", "/photos/1"),
    ],
)
def test_locations_that_match(location, path):
    assert reserves(location, path)


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/photos/", "/photos"),
        ("/photos/", "/Photos/1.jpg"),
        ("/photos/", "/my/photos/1.jpg"),
        ("/photos/*.jpg", "/photos/b.png"),
        ("/photos/*.jpg$", "/photos/b.jpg?size=1"),
        ("/this$", "/this/"),
        ("/*ab*ba$", "/aba"),
        ("/a%2Fb", "/a/b"),
        ("/a*c", "/ab"),
        ("/a?b", "/ab"),
    ],
)
def test_locations_that_do_not_match(location, path):
    assert not reserves(location, path)


def test_the_first_rule_that_matches_counts():
    tdm = file(("/photos/open/", 0), ("/photos/", 1), ("/", 0), ("/late/", 1))
    assert not tdm.reserves("http://a.test/photos/open/1.jpg")
    assert tdm.reserves("http://a.test/photos/1.jpg")
    assert not tdm.reserves("http://a.test/late/1.jpg")


def test_the_example_of_the_report():
    tdm = file(("/directory-a/", 1), ("/directory-b/html/", 1), ("/directory-b/images/*.jpg", 0))
    told = [tdm.reserves(f"https://a.test/directory-{p}") for p in ("a/1.pdf", "b/html/1", "b/images/1.jpg", "c/1")]
    assert told == [True, True, False, False]


@pytest.mark.parametrize("status", [None, 301, 304, 401, 403, 404, 410, 500, 503])
def test_an_origin_without_the_file_takes_no_part(status):
    body = b'[{"location": "/", "tdm-reservation": 1}]'
    assert not Tdm.from_answer(status, body).reserves("http://a.test/")
    assert Tdm.from_answer(200, body).reserves("http://a.test/")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Not found</html>",
        b"null",
        b"1",
        b'"/"',
        b"[]",
        b"{}",
        b"[1, null, [], {}]",
        b'[{"location": "/"}]',
        b"\xff\xfe\xfa",
        b'[{"tdm-reservation": 1}]',
        b'[{"location": 1, "tdm-reservation": 1}]',
        b'[{"location": "/", "tdm-reservation": 2}]',
        b'[{"location": "/", "tdm-reservation": null}]',
        b"[" * 100_000,
        b'[{"location": "/", "tdm-reservation": ' + b"9" * 9999 + b"}]",
    ],
)
def test_what_says_nothing_reserves_nothing(body):
    assert not Tdm.from_answer(200, body).reserves("http://a.test/")


@pytest.mark.parametrize("value", [b"1", b'"1"', b"true", b"1.0", b'" 1 "'])
def test_careless_files_are_understood(value):
    expected = value != b"1.0"
    assert (
        Tdm.from_answer(200, b'[{"location": "/", "tdm-reservation": %s}]' % value).reserves("http://a.test/")
        is expected
    )
    assert (
        Tdm.from_answer(200, b'{"location": "/", "tdm-reservation": %s}' % value).reserves("http://a.test/") is expected
    )
    assert (
        Tdm.from_answer(200, b'[7, {"location": "/", "tdm-reservation": %s}]' % value).reserves("http://a.test/x")
        is expected
    )


def test_a_file_too_large_is_not_read():
    rule = b'{"location": "/", "tdm-reservation": 1}'
    assert Tdm.from_answer(200, b"[" + rule + b" " * (MAX_BYTES - len(rule) - 2) + b"]").reserves("http://a.test/")
    assert not Tdm.from_answer(200, b"[" + rule + b" " * (MAX_BYTES - len(rule) - 1) + b"]").reserves("http://a.test/")


@pytest.mark.parametrize(
    ("headers", "declared"),
    [
        ([], None),
        ([("TDM-Reservation", "1")], True),
        ([("tdm-reservation", " 1 ")], True),
        ([("tdm-reservation", "0")], False),
        ([("tdm-reservation", "0"), ("TDM-RESERVATION", "1")], True),
        ([("tdm-reservation", "2")], None),
        ([("tdm-reservation", "")], None),
        ([("tdm-reservation", "10")], None),
        ([("tdm-reservation", "1;policy=x")], True),
        ([("tdm-policy", "1")], None),
        ([("x-tdm-reservation", "1")], None),
    ],
)
def test_headers(headers, declared):
    assert declared_in_headers(headers) is declared


@pytest.mark.parametrize("declared", [None, "0", "1", "?"])
@pytest.mark.parametrize("filed", [None, 0, 1])
def test_the_header_beats_the_file(declared, filed):
    tdm = Tdm() if filed is None else file(("/", filed))
    headers = [("Content-Type", "image/jpeg")] + ([] if declared is None else [("TDM-Reservation", declared)])
    expected = declared == "1" if declared in ("0", "1") else filed == 1
    assert tdm_reserved(headers, tdm, "http://a.test/1.jpg") is expected


def test_a_hostile_pattern_costs_little():
    tdm = file(*[("/" + "*a" * 2000 + "*b", 1)] * 50)
    began = time.monotonic()
    assert not tdm.reserves(f"http://a.test/{'a' * 20_000}")
    assert time.monotonic() - began < 2


@given(st.text(alphabet="/ab*$%4", max_size=12), st.text(alphabet="/ab*$%4", max_size=12))
def test_a_location_matches_as_the_regular_expression_would(location, path):
    pattern = _pattern(location)
    anchored = pattern.endswith("$")
    expression = ".*".join(re.escape(piece) for piece in pattern.removesuffix("$").split("*")) + (
        "$" if anchored else ""
    )
    url = f"http://a.test/{path}"
    assert reserves(location, f"/{path}") is bool(re.match(expression, _path(url), re.DOTALL))


@given(st.text(max_size=30), st.text(max_size=30), st.binary(max_size=100))
def test_never_raises(location, url, body):
    file((location, 1)).reserves(f"http://a.test/{url}")
    Tdm.from_answer(200, body)
    assert Tdm.from_answer(200, json.dumps(location).encode()) == Tdm()
