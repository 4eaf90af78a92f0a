"""robots.txt: every answer a host may give, and the rules of RFC 9309."""

import time
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.policy.robots import MAX_BYTES, Robots, product_token

AGENT = "Personae/0.1 (+https://example.org/bot)"
URL = "http://a.test/photos/1.jpg"


def rules(text, agent=AGENT):
    return Robots.from_answer(200, text.encode() if isinstance(text, str) else text, agent)


@pytest.mark.parametrize("status", [200, 204, 206, 299])
def test_an_empty_file_allows_all(status):
    robots = Robots.from_answer(status, b"", AGENT)
    assert robots.allows(URL)
    assert not robots.unreachable


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 418, 451, 499])
def test_no_file_allows_all(status):
    robots = Robots.from_answer(status, b"User-agent: *\nDisallow: /", AGENT)
    assert robots.allows(URL)
    assert not robots.unreachable
    assert robots.crawl_delay_s is None


@pytest.mark.parametrize("status", [None, 100, 101, 301, 302, 304, 308, 408, 429, 500, 502, 503, 504, 599, 600, 0])
def test_what_nobody_can_say_forbids_all(status):
    robots = Robots.from_answer(status, b"User-agent: *\nAllow: /", AGENT)
    assert robots.unreachable
    assert not robots.allows(URL)
    assert not robots.allows("http://a.test/robots.txt")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", True),
        ("/photos/1.jpg", True),
        ("/private", False),
        ("/private/1.jpg", False),
        ("/privateer", False),
        ("/Private", True),
        ("/private/open/1.jpg", True),
        ("/photos/1.gif", False),
        ("/photos/1.gif?size=2", True),
        ("/photos/full/1.jpg", False),
        ("/photos/a/b/full/", False),
        ("/a?print=1", False),
        ("/both/1", True),
        ("/caf%C3%A9/1", False),
        ("/café/1", False),
        ("/%70rivate/1", False),
        ("/robots.txt", True),
    ],
)
def test_the_longest_rule_counts_and_of_equals_the_one_that_allows(path, allowed):
    robots = rules(
        "User-agent: *\nDisallow: /private\nAllow: /private/open\nDisallow: /*.gif$\nDisallow: /photos/*/full/\n"
        "Disallow: /photos/full\nDisallow: /*?print=\nAllow: /both\nDisallow: /both\nDisallow: /caf%C3%A9\n"
        "Disallow: /robots.txt\n"
    )
    assert robots.allows(f"http://a.test{path}") is allowed


def test_our_own_group_counts_and_everybodys_only_without_one():
    everybody = "User-agent: *\nDisallow: /\n\n"
    assert not rules(everybody).allows(URL)
    assert rules(everybody + "User-agent: personae\nDisallow: /x\n").allows(URL)
    assert rules("User-agent: personae\nDisallow:\n\n" + everybody).allows(URL)
    assert not rules("User-agent: *\nDisallow:\n\nUser-agent: PERSONAE\nDisallow: /\n").allows(URL)
    assert rules("User-agent: otherbot\nDisallow: /\n").allows(URL)


@pytest.mark.parametrize(
    "name", ["person", "per", "p", "personae-image", "xpersonae", "persona*", "*personae*", "https"]
)
def test_another_crawler_is_not_us_however_alike_its_name(name):
    assert rules(f"User-agent: {name}\nDisallow: /\n").allows(URL)
    assert not rules(f"User-agent: {name}\nDisallow:\n\nUser-agent: *\nDisallow: /\n").allows(URL)


@pytest.mark.parametrize(
    "line",
    [
        "User-agent: Personae",
        "user-agent:personae",
        " USER-AGENT :  Personae  # us",
        "Useragent: personae",
        "User-agent: Personae/2.0",
        "User-agent: Mozilla/5.0 (compatible; Personae/1.0)",
        "User-agent: otherbot, personae",
        "User-agent: *",
        "User-agent: * # all",
        "User-agent: otherbot\nUser-agent: personae\nUser-agent: third",
        "User-agent: personae\nCrawl-delay: 1\nSitemap: http://a.test/s",
    ],
)
def test_spellings_of_who_is_meant(line):
    assert not rules(f"User-agent: x\nDisallow:\n\n{line}\nDisallow: /\n").allows(URL)


def test_groups_of_one_name_are_one():
    robots = rules(
        "User-agent: personae\nDisallow: /a\n\nUser-agent: *\nDisallow: /\n\nUser-agent: Personae\nDisallow: /b\n"
    )
    allowed = [path for path in ("/a", "/b", "/c") if robots.allows(f"http://a.test{path}")]
    assert allowed == ["/c"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n\n", " \n", "#c\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "# a comment\n", "\n\n", "odd line\nSitemap: x\n"])
def test_line_ends_marks_and_comments_do_not_matter(start, end):
    robots = rules(f"{start}User-agent: *{end}Disallow: /photos{end}Crawl-delay: 3{end}")
    assert not robots.allows(URL)
    assert robots.allows("http://a.test/")
    assert robots.crawl_delay_s == 3


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("User-agent: *\nCrawl-delay: 10", 10),
        ("User-agent: *\nCrawl-delay: 0.5\nDisallow: /x", 0.5),
        ("User-agent: *\nCrawl-delay: 5\n\nUser-agent: personae\nDisallow: /x", None),
        ("User-agent: *\nCrawl-delay: 5\n\nUser-agent: personae\nCrawl-delay: 7", 7),
        ("User-agent: otherbot\nCrawl-delay: 5", None),
        ("User-agent: *\nCrawl-delay: -1", None),
        ("User-agent: *\nCrawl-delay: inf", None),
        ("User-agent: *\nCrawl-delay: nan", None),
        ("User-agent: *\nCrawl-delay: soon", None),
        ("User-agent: *\nDisallow: /", None),
        ("", None),
    ],
)
def test_crawl_delay(text, delay):
    assert rules(text).crawl_delay_s == delay


def test_a_large_file_is_read_up_to_500_kib_and_no_rule_is_cut():
    head = b"User-agent: *\nDisallow: /early\n"
    filler = b"Disallow: /f/%08d\n"
    lines = (MAX_BYTES - len(head)) // len(filler % 0)
    text = head + b"".join(filler % n for n in range(lines)) + b"Allow: /\nDisallow: /late\n" * 4000
    assert len(text) > MAX_BYTES + 50_000
    robots = rules(text)
    assert not robots.allows("http://a.test/early")
    assert not robots.allows(f"http://a.test/f/{lines - 1:08d}")
    kept = b"\nAllow: /early/a"
    cut = head + b"#" * (MAX_BYTES - len(head) - len(kept)) + kept + b"nd/more\n" + b"#" * 99
    assert cut[:MAX_BYTES].endswith(kept)
    for text in (cut, cut[:MAX_BYTES]):
        assert not rules(text).allows("http://a.test/early/a")
        assert rules(text).allows("http://a.test/late")


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Not found</body></html>",
        bytes(range(256)) * 50,
        b"\0" * 1000,
        b"User-agent",
        b":" * 1000,
        b"Disallow: /\n",
        "Benutzer: *\nVerboten: /".encode("utf-16"),
        b"x" * (600 * 1024),
    ],
)
def test_what_holds_no_rules_forbids_nothing(body):
    robots = rules(body)
    assert robots.allows(URL)
    assert not robots.unreachable


@given(st.binary(max_size=300), st.sampled_from([None, 200, 404, 503]), st.text(max_size=30), st.text(max_size=30))
def test_never_raises(body, status, url, agent):
    for address in (url, f"http://a.test/{url}"):
        assert Robots.from_answer(status, b"User-agent: *\nDisallow: /x\n" + body, agent).allows(address) in (
            True,
            False,
        )


def test_a_hostile_file_costs_little():
    robots = rules(b"User-agent: *\n" + b"Disallow: /*a*a*a*a*a*a*b\n" * 15_000)
    began = time.monotonic()
    assert robots.allows(f"http://a.test/{'a' * 2000}")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("agent", "token"),
    [
        (AGENT, "personae"),
        ("personae", "personae"),
        ("Mozilla/5.0 (compatible; Personae-Bot/1.0; +https://example.org)", "personae-bot"),
        ("My_Bot (https://example.org)", "my_bot"),
        ("", ""),
    ],
)
def test_product_token(agent, token):
    assert product_token(agent) == token


def test_over_the_wire(hostile_server, answers):
    """What a server says and what is made of it, redirects and their limit included."""
    forbid = answers.text("User-agent: *\nDisallow: /photos")
    server = hostile_server(
        routes={
            "/200": forbid,
            "/403": answers.status(403),
            "/503": answers.status(503),
            "/reset": answers.reset(),
            "/silent": answers.silent(),
        }
    )
    server.chain("/moved", 5, server.url("/200"))

    def status_and_body(path):
        try:
            with urllib.request.urlopen(server.url(path), timeout=1) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return None, b""

    paths = ("/200", "/moved", "/403", "/404", "/503", "/reset", "/silent")
    found = {path: Robots.from_answer(*status_and_body(path), AGENT) for path in paths}
    assert [path for path in paths if found[path].allows(URL)] == ["/403", "/404"]
    assert [path for path in paths if found[path].unreachable] == ["/503", "/reset", "/silent"]
