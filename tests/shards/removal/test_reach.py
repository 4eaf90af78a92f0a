"""How far a request reaches: the same photo under any name or address, and no other."""

from __future__ import annotations

import dataclasses

import pytest

from crawl.errors import InputError
from shards.removal.known import Known
from shards.removal.reach import reach
from shards.removal.request import Request, add_request_arguments, request, requests_of

DHASH = 0x0F0F_3C3C_5A5A_1234


def photo(key, identity="ada", sha256=None, url=None, **more):
    url = url or f"https://a.example/{key}.jpg"
    made = Known(key, identity, 0, sha256 or f"sha-{key}", "", (url,), None, url, False, True, True)
    return dataclasses.replace(made, **more)


def keys(photos, *requests, identities=()):
    found = reach(photos, [Request(*r) if isinstance(r, tuple) else r for r in requests], identities)
    return "".join(p.key for p in found.rows), "".join(p.key for p in found.photos)


def test_bytes_addresses_and_duplicates_lead_from_one_to_the_next():
    photos = [
        photo("a"),
        photo("b", "bob", sha256="sha-a"),
        photo("c", "bob", url="https://b.example/x.jpg", sha256="sha-a2", duplicate_of="b"),
        photo("d", "cid", url="https://B.example:443/x.jpg"),
        photo("e"),
    ]
    assert keys(photos, request("url", "https://a.example/a.jpg")) == ("abcd", "abcd")
    assert keys(photos, request("url", "https://a.example/e.jpg")) == ("e", "e")


def test_the_same_picture_by_its_looks():
    mirrored, other = 0x1234_0F0F_3C3C_5A5A, 0x7777_1111_0000_FF00
    photos = [
        photo("a", dhashes=(DHASH, mirrored)),
        photo("b", dhashes=(DHASH ^ 3, other)),
        photo("c", dhashes=(mirrored ^ 1, other)),
        photo("d", dhashes=(DHASH ^ 0xFF, other)),
        photo("e", dhashes=(0, 0)),
        photo("f", dhashes=(0, 0)),
    ]
    assert keys(photos, request("url", "https://a.example/a.jpg")) == ("abc", "abc")
    assert keys(photos, request("url", "https://a.example/e.jpg")) == ("e", "e"), "flat pictures all look the same"


def test_a_photo_of_somebody_else_goes_as_a_row_and_not_as_a_photo():
    photos = [photo("a"), photo("b", shows=False, sha256="sha-bob"), photo("c", "bob", sha256="sha-bob")]
    fetched = photo("", sha256="sha-bob")
    assert keys([*photos, fetched], identities={"ada"}) == ("ab", "a")
    items = reach(photos, [], {"ada"}).items([], {"ada"})
    assert ("sha256", "sha-bob") not in items
    assert {("identity", "ada"), ("sha256", "sha-a")} < set(items)


def test_domains_reach_all_hosts_below_and_pages_count():
    photos = [
        photo("a", url="https://cdn.a.example/1.jpg"),
        photo("b", url="https://nota.example/1.jpg"),
        photo("c", url="https://b.example/1.jpg", page_url="https://www.a.example/page"),
    ]
    assert keys(photos, request("domain", "A.example")) == ("ac", "ac")
    assert keys(photos, request("url", "https://www.a.example/page")) == ("c", "c")


def parsed(*arguments):
    import argparse

    parser = argparse.ArgumentParser()
    add_request_arguments(parser)
    return requests_of(parser.parse_args(arguments))


def test_a_list_of_requests(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# who asked\n\nidentity Ada Lovelace\nurl HTTPS://a.example/1.jpg\nsha256 " + "AB" * 32 + "\n")
    found = parsed("--list", str(path), "--domain", "b.example", "--identity", "Ada Lovelace")
    assert [r.kind for r in found] == ["identity", "domain", "url", "sha256"]
    assert {r.text for r in found} >= {"https://a.example/1.jpg", "ab" * 32, "b.example"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("photo x", "line 2: starts with 'photo'"),
        ("url ftp://a.example/", "line 2: --url"),
        ("sha256 abc", "line 2: --sha256: 'abc' is not 64"),
        ("identity", "line 2: --identity: nothing is named"),
        ("domain https://a.example/", "line 2: --domain"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, expected):
    path = tmp_path / "list.txt"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(InputError, match=expected) as caught:
        parsed("--list", str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_no_request_and_no_list(tmp_path):
    with pytest.raises(InputError, match="nothing to take down"):
        parsed()
    with pytest.raises(InputError, match="No such file"):
        parsed("--list", str(tmp_path / "none"))
