"""Paths into JSON: what is there, None for what is not, an error for what is no path."""

import pytest

from crawl.sources.json_path import parse_path, value_at

DOCUMENT = {"items": [{"link": "first"}, {"link": {"url": "second"}}], "a-b": 3, "null": None}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", DOCUMENT),
        ("items[0].link", "first"),
        ("$.items[1].link.url", "second"),
        ("a-b", 3),
        ("items[2].link", None),
        ("items.link", None),
        ("items[0].link.url", None),
        ("null.x", None),
        ("nothing", None),
        ("[0]", None),
    ],
)
def test_values_in_a_document(path, value):
    assert value_at(DOCUMENT, parse_path(path)) == value


def test_a_document_that_is_a_list():
    assert value_at([{"url": "u"}], parse_path("[0].url")) == "u"
    assert value_at([{"url": "u"}], parse_path("$[0].url")) == "u"


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a.[0]", "$a", "$.", "a b", "a[0]b"]
)
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match="no path"):
        parse_path(path)
