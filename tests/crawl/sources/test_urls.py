"""Every row of a list is a target or says why not, with its line; nothing in a file stops the others."""

import csv
import io
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl.errors import InputError
from crawl.fetching.target import Target
from crawl.source_config import UrlsSettings
from crawl.sources.listing import REASONS, Unlisted
from crawl.sources.urls import UrlsSource

HEADER = "identity,url,page_url,license,author,attribution\n"


@pytest.fixture
def listed(tmp_path):
    def find(content, **options):
        path = tmp_path / "list.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(UrlsSource(UrlsSettings(source="urls", path=str(path), **options)).find())

    return find


def reasons(entries):
    """(where, name, reason) of what is no target."""
    return [(e.where, e.name, e.rejection.reason) for e in entries if isinstance(e, Unlisted)]


def targets(entries):
    return [e for e in entries if isinstance(e, Target)]


def test_a_full_row(listed):
    (target,) = listed(
        HEADER + "Ada Lovelace,http://a.example/1.jpg,http://a.example/1,CC BY 4.0,A. Painter,By A. Painter\n"
    )
    assert target == Target(
        "Ada Lovelace",
        "http://a.example/1.jpg",
        "http://a.example/1",
        "CC BY 4.0",
        "A. Painter",
        "By A. Painter",
    )


def test_two_columns_are_enough_in_any_order_and_case(listed):
    assert listed("Image_URL , NAME\n http://a.example/1.jpg , Ada \n") == [Target("Ada", "http://a.example/1.jpg")]


def test_named_columns_and_another_delimiter(listed):
    options = {"columns": {"name": "celebrity_name", "image_url": "full"}, "delimiter": ";"}
    entries = listed("celebrity_name;full;url\nAda;http://a.example/1.jpg;http://a.example/thumb.jpg\n", **options)
    assert entries == [Target("Ada", "http://a.example/1.jpg")]


def test_a_licence_for_rows_that_name_none(listed):
    entries = listed("name,url,licence\nAda,http://a/1,\nAda,http://a/2,CC0\n", licence="CC BY 4.0")
    assert [e.licence for e in entries] == ["CC BY 4.0", "CC0"]


def test_the_url_is_fetched_as_given(listed):
    url = "http://A.example:80/x.jpg?utm_source=s&sig=b%2f&a=1#f"
    assert targets(listed(f"name,url\nAda,{url}\n"))[0].image_url == url


def test_bad_rows_are_said_with_their_lines_and_the_others_come_through(listed):
    entries = listed(
        "name,url\n"
        "Ada,http://a.example/1.jpg\n"
        ",http://a.example/2.jpg\n"
        "Ada,\n"
        "Ada,ftp://a.example/3.jpg\n"
        "Ada,/4.jpg\n"
        "Ada,http://\n"
        "Ada,http://user:secret@a.example/5.jpg\n"
        "\n"
        "Ada\n"
        "Ada,http://a.example/6.jpg,more\n"
        "Ada,HTTP://a.example:80/1.jpg?utm_medium=x#f\n"
        "Bob,http://a.example/1.jpg\n"
        "Ada,http://a.example/7.jpg\n"
    )
    assert reasons(entries) == [
        ("line 3", "", "no_name"),
        ("line 4", "Ada", "no_url"),
        ("line 5", "Ada", "not_http"),
        ("line 6", "Ada", "not_http"),
        ("line 7", "Ada", "bad_url"),
        ("line 8", "Ada", "bad_url"),
        ("line 10", "Ada", "no_url"),
        ("line 11", "", "malformed"),
        ("line 12", "Ada", "duplicate"),
    ]
    assert [(t.name, t.image_url[-5:]) for t in targets(entries)] == [
        ("Ada", "1.jpg"), ("Bob", "1.jpg"), ("Ada", "7.jpg"),
    ]  # fmt: skip
    assert all(e.rejection.stage == "crawl" for e in entries if isinstance(e, Unlisted))


def test_lines_are_counted_through_quoted_line_breaks(listed):
    entries = listed('name,url,credit\nAda,http://a/1,"two\nlines"\nAda,x,"three\n\nlines"\nAda,y,\n')
    assert targets(entries)[0].attribution == "two\nlines"
    assert reasons(entries) == [("lines 4-6", "Ada", "not_http"), ("line 7", "Ada", "not_http")]


def test_a_broken_quote_costs_its_row(listed):
    entries = listed('name,url\nAda,"http://a/1"x\nAda,http://a/2\nBob,"http://b/1\n')
    assert reasons(entries) == [("line 2", "", "malformed"), ("line 4", "", "malformed")]
    assert [t.image_url for t in targets(entries)] == ["http://a/2"]


def test_a_field_without_end_costs_what_it_swallowed(listed):
    rows = "".join(f"Ada,http://a/{n}\n" for n in range(20_000))
    entries = listed('name,url\nAda,"http://a/x\n' + rows)
    assert reasons(entries)[0][2] == "malformed"
    assert reasons(entries)[0][0].startswith("lines 2-")
    assert len(targets(entries)) > 10_000
    assert targets(entries)[-1].image_url == "http://a/19999"


def test_rows_that_are_no_utf8(listed):
    entries = listed(b"\xef\xbb\xbfname,url\nAd\xe9,http://a/1\nAd\xc3\xa9,http://a/2\n")
    assert reasons(entries) == [("line 2", "", "encoding")]
    assert targets(entries) == [Target("Adé", "http://a/2")]


def test_two_spellings_of_a_name_are_one(listed):
    entries = listed("name,url\nAde\u0301,http://a/1\nAd\u00e9,http://a/1\nAd\u00e9  B,http://a/1\n")
    assert reasons(entries) == [("line 3", "Ad\u00e9", "duplicate")]
    assert [t.name for t in targets(entries)] == ["Ad\u00e9", "Ad\u00e9 B"]


def test_only_allowed_licences(listed):
    content = "name,url,license\nAda,http://a/1,CC BY 4.0\nAda,http://a/2,CC BY-NC 4.0\nAda,http://a/3,\n"
    entries = listed(content, allowed_licences=["cc-by", "cc0"])
    assert [t.licence for t in targets(entries)] == ["CC BY 4.0"]
    assert [(e.where, e.rejection.detail) for e in entries if isinstance(e, Unlisted)] == [
        ("line 3", "CC BY-NC 4.0"), ("line 4", "unknown"),
    ]  # fmt: skip


def test_at_most_so_many_a_person(listed):
    rows = "".join(f"{name},http://a/{n}\n" for n in range(3) for name in ("Ada", "Bob"))
    entries = listed("name,url\n" + rows, max_photos=2)
    assert [t.name for t in targets(entries)] == ["Ada", "Bob", "Ada", "Bob"]
    assert reasons(entries) == [("line 6", "Ada", "max_photos"), ("line 7", "Bob", "max_photos")]


def test_a_page_that_is_no_web_page_is_not_kept(listed):
    entries = listed("name,url,page\nAda,http://a/1,javascript:alert(1)\nAda,http://a/2,HTTPS://a/2\n")
    assert [t.page_url for t in entries] == [None, "HTTPS://a/2"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "name,link\nAda,http://a/1\n",
            {},
            r"list\.csv: no column for `image_url`: .* the file has name, link; name it",
        ),
        ("name,url\n", {"columns": {"name": "nam"}}, r"no column for `name`: looked for nam, .*did you mean name\?"),
        ("", {}, r"no column for `name`: .* the file has none"),
        ('"name,url\nAda,http://a/1\n', {}, r"list\.csv: line 1: "),
        (b"\xff\xfen\0a\0m\0e\0", {}, r"no column for `name`"),
        (b"PAR1 and then nothing", {}, r"list\.csv: cannot be read as Parquet: "),
    ],
)
def test_a_file_that_is_no_list_is_one_line(listed, content, options, message):
    with pytest.raises(InputError, match=message) as error:
        listed(content, **options)
    assert "\n" not in str(error.value)


def test_no_file(tmp_path):
    source = UrlsSource(UrlsSettings(source="urls", path=str(tmp_path / "no.csv")))
    with pytest.raises(InputError, match=r"no\.csv: cannot be read: No such file"):
        list(source.find())


def parquet(tmp_path, **columns):
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table(columns), path)
    return list(UrlsSource(UrlsSettings(source="urls", path=str(path))).find())


def test_parquet(tmp_path):
    names = pa.array(["Ada", None, "Ada", "Ada"]).dictionary_encode()
    entries = parquet(tmp_path, name=names, url=["http://a/1", "http://a/2", None, "http://A/1"], extra=[1, 2, 3, 4])
    assert targets(entries) == [Target("Ada", "http://a/1")]
    assert reasons(entries) == [("row 2", "", "no_name"), ("row 3", "Ada", "no_url"), ("row 4", "Ada", "duplicate")]


def test_parquet_names_may_be_numbers_but_no_lists(tmp_path):
    assert targets(parquet(tmp_path, name=[7], url=["http://a/1"]))[0].name == "7"
    with pytest.raises(InputError, match=r"column url for `image_url` holds list.*, not text"):
        parquet(tmp_path, name=["Ada"], url=[["http://a/1"]])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_long_list_is_streamed(tmp_path, kind):
    count, note = 12_000, "x" * 2000
    path = tmp_path / f"list.{kind}"
    names, urls = ["Ada"] * count, [f"http://a.example/{n}.jpg" for n in range(count)]
    if kind == "csv":
        path.write_text("name,url,credit\n" + "".join(f"Ada,{url},{note}\n" for url in urls))
    else:
        pq.write_table(pa.table({"name": names, "url": urls, "credit": [note] * count}), path)
    source = UrlsSource(UrlsSettings(source="urls", path=str(path)))
    tracemalloc.start()
    try:
        assert sum(isinstance(entry, Target) for entry in source.find()) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * count + 4e6  # the rows themselves would take 2,100 bytes each


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12) | st.integers(0, 5).map("http://a/{}".format)))
)
def test_rows_in_are_rows_out(tmp_path_factory, rows):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("name", "url"), *rows])
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    entries = list(UrlsSource(UrlsSettings(source="urls", path=str(path))).find())
    assert len(entries) == len(rows)
    assert {reason for _, _, reason in reasons(entries)} <= set(REASONS)


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(max_size=300) | st.text(st.sampled_from('",\n\r\0aé'), max_size=60).map(str.encode))
def test_no_content_stops_the_run(tmp_path_factory, junk):
    path = tmp_path_factory.getbasetemp() / "junk.csv"
    path.write_bytes(b"name,url\n" + junk + b'\n"\nBob,http://b/1\n')
    for entry in UrlsSource(UrlsSettings(source="urls", path=str(path))).find():
        assert isinstance(entry, Target | Unlisted)
