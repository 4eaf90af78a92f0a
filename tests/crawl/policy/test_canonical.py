"""Spellings of one address become one; addresses that may differ stay two; nothing else than http gets through."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crawl.policy.canonical import TRACKING, BadUrl, canonical

SAME = {
    "case of scheme and host": ("HTTP://Example.ORG/a.jpg", "http://example.org/a.jpg"),
    "default port": ("https://example.org:443/a.jpg", "https://example.org/a.jpg"),
    "default port of http": ("http://example.org:80/a.jpg", "http://example.org/a.jpg"),
    "empty port": ("http://example.org:/a.jpg", "http://example.org/a.jpg"),
    "fragment": ("http://example.org/a.jpg#face", "http://example.org/a.jpg"),
    "no path": ("http://example.org", "http://example.org/"),
    "empty query": ("http://example.org/a.jpg?", "http://example.org/a.jpg"),
    "order of parameters": ("http://example.org/a?b=2&a=1", "http://example.org/a?a=1&b=2"),
    "tracking": ("http://example.org/a?utm_source=x&id=7&fbclid=y", "http://example.org/a?id=7"),
    "tracking in capitals": ("http://example.org/a?UTM_Source=x&id=7", "http://example.org/a?id=7"),
    "tracking, encoded": ("http://example.org/a?utm%5Fsource=x&id=7", "http://example.org/a?id=7"),
    "tracking beside a bare part": ("http://example.org/a?photo.jpg&gclid=1", "http://example.org/a?photo.jpg"),
    "empty parameters": ("http://example.org/a?&a=1&&", "http://example.org/a?a=1"),
    "letters that need no encoding": ("http://example.org/%61%2D%7E.jpg", "http://example.org/a-~.jpg"),
    "case of encoding": ("http://example.org/%c3%a9", "http://example.org/%C3%A9"),
    "letters that need encoding": ("http://example.org/é", "http://example.org/%C3%A9"),
    "blank": ("http://example.org/my photo.jpg", "http://example.org/my%20photo.jpg"),
    "blanks around": ("  http://example.org/a.jpg ", "http://example.org/a.jpg"),
    "lone percent": ("http://example.org/100%", "http://example.org/100%25"),
    "dot segments": ("http://example.org/a/./b/../c.jpg", "http://example.org/a/c.jpg"),
    "encoded dot segments": ("http://example.org/a/%2e%2E/c.jpg", "http://example.org/c.jpg"),
    "above the root": ("http://example.org/../../a.jpg", "http://example.org/a.jpg"),
    "dots at the end": ("http://example.org/a/b/..", "http://example.org/a/"),
    "dot at the end of the host": ("http://example.org./a.jpg", "http://example.org/a.jpg"),
    "host in its own script": ("http://Bücher.example/a", "http://xn--bcher-kva.example/a"),
    "full-width host": ("http://ｅxample。org/a", "http://example.org/a"),
    "IPv6": ("http://[2001:DB8:0:0::1]:8080/a", "http://[2001:db8::1]:8080/a"),
}
DIFFERENT = {
    "scheme": ("http://example.org/a", "https://example.org/a"),
    "port": ("http://example.org:8080/a", "http://example.org/a"),
    "www": ("http://www.example.org/a", "http://example.org/a"),
    "case of path": ("http://example.org/A.jpg", "http://example.org/a.jpg"),
    "trailing slash": ("http://example.org/a/", "http://example.org/a"),
    "double slash": ("http://example.org//a", "http://example.org/a"),
    "encoded slash": ("http://example.org/a%2Fb", "http://example.org/a/b"),
    "value of a parameter": ("http://example.org/a?id=1", "http://example.org/a?id=2"),
    "order of one parameter's values": ("http://example.org/a?p=1&p=2", "http://example.org/a?p=2&p=1"),
    "order where parts have no names": ("http://example.org/a?x&y=1", "http://example.org/a?y=1&x"),
    "plus and blank": ("http://example.org/a?q=x+y", "http://example.org/a?q=x%20y"),
    "encoded ampersand": ("http://example.org/a?q=x%26y=1", "http://example.org/a?q=x&y=1"),
    "parameters that may choose a photo": ("http://example.org/a?ref=1", "http://example.org/a"),
    "a bare part called like tracking": ("http://example.org/a?gclid", "http://example.org/a"),
    "sharp s": ("http://straße.example/a", "http://strasse.example/a"),
}
BAD = {
    "": "not_http",
    "photo.jpg": "not_http",
    "//example.org/a.jpg": "not_http",
    "ftp://example.org/a.jpg": "not_http",
    "file:///etc/passwd": "not_http",
    "data:image/png;base64,AAAA": "not_http",
    "javascript:alert(1)": "not_http",
    "http:/example.org/a.jpg": "bad_url",
    "http://": "bad_url",
    "http:///a.jpg": "bad_url",
    "http://user:secret@example.org/a.jpg": "bad_url",
    "http://user@example.org/a.jpg": "bad_url",
    "http://example.org:port/a": "bad_url",
    "http://example.org:99999/a": "bad_url",
    "http://exa mple.org/a": "bad_url",
    "http://exam%70le.org/a": "bad_url",
    "http://a..b/": "bad_url",
    "http://example.org\\@127.0.0.1/": "bad_url",
    "http://[::1": "bad_url",
    "http://[fe80::1%25eth0]/": "bad_url",
    "http://[v1.a]/": "bad_url",
    "http://a[::1]/": "bad_url",
    "http://[::1::2]/": "bad_url",
    "http://[::1]a/": "bad_url",
    "http://example.org/a\nHost: b": "bad_url",
    "http://example.org/\ud800": "bad_url",
    f"http://{'a' * 64}.org/": "bad_url",
    f"http://{'a.' * 150}org/": "bad_url",
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_spellings_of_one_address_are_one(one, other):
    assert canonical(one) == canonical(other) == other


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_addresses_that_may_differ_stay_two(one, other):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(("url", "reason"), BAD.items())
def test_what_nobody_can_fetch_is_refused(url, reason):
    with pytest.raises(BadUrl) as error:
        canonical(url)
    assert error.value.reason == reason
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", sorted(TRACKING))
def test_every_tracking_parameter_is_dropped(name):
    assert canonical(f"http://example.org/a?{name}=x&k=1") == "http://example.org/a?k=1"


URLS = st.builds(
    "{}://{}{}/{}?{}#{}".format,
    st.sampled_from(["http", "HTTPS"]),
    st.text(st.sampled_from("aZé.ß-09"), min_size=1, max_size=12),
    st.sampled_from(["", ":80", ":443", ":8080"]),
    st.text(st.sampled_from("a/.%2eE~é?&= +"), max_size=20),
    st.text(st.sampled_from("ab=&%26;+é/utm_"), max_size=20),
    st.text(max_size=3),
)


@settings(max_examples=500, deadline=None)
@given(URLS | st.text(max_size=40) | st.text(max_size=40).map("http://example.org/".__add__))
@example("http://a/%%41")
@example("http://a/%2%35")
def test_canonical_is_its_own_canonical_form(url):
    try:
        once = canonical(url)
    except BadUrl:
        return
    assert canonical(once) == once
    assert once.isascii()
