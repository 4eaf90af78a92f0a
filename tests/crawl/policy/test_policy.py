"""Opt-out signals in headers and pages: all tokens, all forms, and nothing that is none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.policy import signals as policy
from crawl.policy.signals import TOKENS, Robots, Tdm, signals_in_headers, signals_in_html, tdm_reserved

AGENT = "Personae/0.1 (+https://example.org/bot)"


def tagged(*values, agent=AGENT):
    """The directives seen in X-Robots-Tag headers of these values."""
    signals = signals_in_headers([("X-Robots-Tag", value) for value in values], agent)
    return [signal.removeprefix("x-robots-tag: ") for signal in signals]


def test_the_tokens_are_those_promised():
    assert {"noai", "noimageai", "noindex", "noimageindex", "noml"} < TOKENS


@pytest.mark.parametrize("token", sorted(TOKENS))
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "{} ",
        " {},",
        "NOFOLLOW, {}",
        "{}, nofollow",
        "nofollow,{},noarchive",
        "nofollow; {}",
        "nofollow {}",
        "all, {}",
        "personae: {}",
        "Personae : {}",
        "Personae/1.0: {}",
        "*: {}",
        "otherbot: all, personae: {}",
        "personae: nofollow, {}",
        "max-image-preview: large, {}",
        "unavailable_after: Wed, 03 Dec 2025 13:09:53 GMT, {}",
        "{}, unavailable_after: 25 Jun 2010 15:00:00 PST",
        "unavailable_after: 03-Dec-25 15:00:00 PST, {}",
        "personae: max-snippet: 3, {}",
        "{}: true",
        "{}=1",
    ],
)
def test_every_token_in_every_form(token, form):
    assert tagged(form.format(token)) == [token]
    assert tagged(form.format(token.upper())) == [token]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "all",
        "nofollow",
        "noarchive, nosnippet",
        "index, follow",
        "noaix",
        "xnoai",
        "no ai",
        "ai",
        "max-image-preview: none",
        "max-snippet: 0",
        "unavailable_after: Wed, 03 Dec 2025 13:09:53 GMT",
        "otherbot: noai",
        "otherbot: noai, noimageai, noindex",
        "otherbot: max-image-preview: none",
        "GPTBot: noai, CCBot: noml",
        "person: noai",
        "personae-image: noai",
        "personae: all",
        "noimageindexed",
        "indexifembedded",
        ":",
        ",,;",
        "personae:",
    ],
)
def test_what_is_no_opt_out_of_ours(value):
    assert tagged(value) == []


def test_a_name_holds_until_the_next_name_and_no_further_than_its_header():
    assert tagged("otherbot: noai, personae: noml, noimageai, third: noindex") == ["noml", "noimageai"]
    assert tagged("noindex, otherbot: noai") == ["noindex"]
    assert tagged("otherbot: noindex", "noai", "third: noml") == ["noai"]
    assert tagged("otherbot: nofollow", "personae: noimageai, noai") == ["noimageai", "noai"]


def test_several_headers_give_each_signal_once_in_order():
    headers = [
        ("Content-Type", "image/jpeg"),
        ("x-robots-tag", "noml, noai"),
        ("TDM-Reservation", "1"),
        ("X-ROBOTS-TAG", "NoAI"),
        ("X-Robots-Tags", "noindex"),
    ]
    expected = ("x-robots-tag: noml", "x-robots-tag: noai", "tdm-reservation: 1")
    assert signals_in_headers(headers, AGENT) == expected
    assert signals_in_headers(tuple(headers), "Mozilla/5.0 (compatible; Personae/1.0)") == expected
    assert signals_in_headers([], AGENT) == ()
    assert signals_in_headers([("tdm-reservation", "0"), ("robots", "noai")], AGENT) == ()


def test_another_agent_reads_its_own_name():
    assert tagged("otherbot: noai", agent="OtherBot/3") == ["noai"]
    assert tagged("personae: noai", agent="OtherBot/3") == []


@pytest.mark.parametrize("token", sorted(TOKENS))
@pytest.mark.parametrize(
    ("element", "name"),
    [
        ('<meta name="robots" content="{}">', "robots"),
        ("<META CONTENT='nofollow, {}' NAME=ROBOTS />", "robots"),
        ("<meta name=robots content={}>", "robots"),
        ('<meta name=" Robots "\n  content=" {} , follow">', "robots"),
        ('<meta name="personae" content="{}">', "personae"),
        ('<meta name="Personae" content="{}">', "personae"),
        ('<meta http-equiv="X-Robots-Tag" content="{}">', "x-robots-tag"),
        ('<meta name="robots" content="all"><meta name="robots" content="{}">', "robots"),
        ('</head><body><p>text<meta name="robots" content="{}">', "robots"),
        ('<noscript><meta name="robots" content="{}"></noscript>', "robots"),
        ('<meta name="description" content="a > b"><meta name="robots" content="{}">', "robots"),
        ('<title>x</title><meta data-x="1>2" name="robots" content="{}">', "robots"),
        ('<meta name="robots" content="&#x0020;{}">', "robots"),
    ],
)
def test_every_token_in_a_page(element, name, token):
    page = f"<!DOCTYPE html><html><head>{element.format(token)}</head><body>hello"
    assert signals_in_html(page, AGENT) == (f"meta {name}: {token}",)
    assert signals_in_html(page.replace(token, token.upper()), AGENT) == (f"meta {name}: {token}",)


@pytest.mark.parametrize(
    "page",
    [
        "",
        "noai",
        "<p>noai</p>",
        "<meta>",
        "<meta name=robots>",
        "<meta content=noai>",
        "<meta name=robots content='index, follow'>",
        "<meta name=googlebot content=noai>",
        "<meta name=otherbot content=noindex>",
        "<meta name=description content='noai noindex'>",
        "<meta name=robots content='max-image-preview:none'>",
        "<meta name=tdm-reservation content=0>",
        "<meta name=tdm-policy content=1>",
        "<!-- <meta name=robots content=noai> -->",
        "<script>'<meta name=robots content=noai>'</script>",
        "<style>/*<meta name=robots content=noai>*/</style>",
        "&lt;meta name=robots content=noai&gt;",
        "<textarea><meta name=robots content=noai></textarea>",
        "<p title='<meta name=robots content=noai>'>",
        "\0\0",
        "<" * 1000,
    ],
)
def test_pages_without_a_signal(page):
    assert signals_in_html(page, AGENT) == ()


def test_a_page_with_several_signals():
    page = (
        "<meta name=robots content='noai, noml'><meta name=personae content=noindex>"
        "<meta name=TDM-Reservation content=' 1 '><meta name=robots content=noml><meta name=otherbot content=none>"
    )
    expected = ("meta robots: noai", "meta robots: noml", "meta personae: noindex", "meta tdm-reservation: 1")
    assert signals_in_html(page, AGENT) == expected


@pytest.mark.parametrize(
    "page",
    [
        "<?xml version='1.0' encoding='utf-16'?>{}",
        "<meta charset=utf-16>{}",
        "\ufeff{}",
        "é\U0001f600\ud800{}",
        "\0{}",
        "</html>{}",
        "<br>" * 50_000 + "{}",
        "<b><i></b></i><table><tr><p>{}",
        "<![CDATA[ x ]]>{}",
    ],
)
def test_broken_pages_hide_nothing(page):
    assert signals_in_html(page.format("<meta name=robots content=noai>"), AGENT) == ("meta robots: noai",)


def test_a_hostile_page_costs_little():
    for page in (
        "<!--" * 100_000,
        "<meta " * 100_000,
        "<div>" * 200_000,
        "<meta name='" * 50_000,
        "<![" * 100_000,
        "&" * 500_000,
    ):
        began = time.monotonic()
        signals_in_html(page + "<meta name=robots content=x>", AGENT)
        assert time.monotonic() - began < 2


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20))
def test_never_raises(name, text, agent):
    for header in (name, "x-robots-tag", "tdm-reservation"):
        signals_in_headers([(header, text)], agent)
    signals_in_html(f"<meta name=robots content='{text}'>{text}<meta name='{name}' content=noai>", agent)


def test_what_belongs_to_a_host_is_found_here_too():
    assert {"Robots", "Tdm", "tdm_reserved"} <= set(policy.__all__)
    assert Robots.from_answer(404, b"", AGENT).allows("http://a.test/")
    assert not tdm_reserved([], Tdm(), "http://a.test/")
