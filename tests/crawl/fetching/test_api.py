"""Patience with an API: Retry-After is kept to, backing off is bounded, and no message shows what was sent."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.errors import InputError, one_line
from crawl.fetching.api import (
    BUSY,
    Answer,
    Api,
    NoAnswer,
    Patience,
    key_from,
    records_of,
    retry_after_s,
    text_of,
    url_of,
)

URL = "https://api.example.org/v1"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = Answer(200, {}, b'{"fine": true}')


class Script:
    """A `get` that gives the answers of a list in turn, the last one for ever; and a `sleep` that notes."""

    def __init__(self, *answers):
        self.answers = answers
        self.asked = []
        self.slept = []

    def get(self, url, parameters, headers):
        self.asked.append((url, dict(parameters), dict(headers)))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def api(self, **patience):
        return Api(self.get, self.slept.append, lambda: NOW, Random(0), Patience(**patience))


def status(code, body=b"", **headers):
    return Answer(code, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def reason(script, **options):
    with pytest.raises(NoAnswer) as error:
        script.api().json(URL, {}, **options)
    return error.value.reason, error.value.retry, len(script.asked)


def test_an_answer_comes_through_with_what_was_asked():
    script = Script(GOOD)
    assert script.api().json(URL, {"q": "Ada"}, {"accept": "x"}) == {"fine": True}
    assert script.asked == [(URL, {"q": "Ada"}, {"accept": "x"})]
    assert script.slept == []


@pytest.mark.parametrize(
    "trouble",
    [
        status(429),
        status(500),
        status(502),
        status(503),
        status(504),
        status(200, b'{"cut": '),
        status(200, b"\xff\xfe"),
        status(200, b"[" * 100_000),
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(trouble):
    script = Script(trouble, trouble, GOOD)
    assert script.api().json(URL, {}) == {"fine": True}
    assert len(script.slept) == 2


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (status(429), ("http_429", True, 5)),
        (status(503), ("http_503", True, 5)),
        (status(400), ("http_400", False, 1)),
        (status(401), ("http_401", False, 1)),
        (status(403), ("http_403", False, 1)),
        (status(404), ("http_404", False, 1)),
        (status(408), ("http_408", True, 1)),
        (status(301), ("http_301", True, 1)),
        (status(200, b"<html>"), ("not_json", True, 5)),
        (ConnectionRefusedError(), ("connection", True, 5)),
        (NoAnswer(URL, "robots_disallowed", retry=False), ("robots_disallowed", False, 1)),
    ],
    ids=repr,
)
def test_what_stays_wrong_is_said_with_its_reason(trouble, expected):
    assert reason(Script(trouble)) == expected


def test_an_error_in_a_document_is_found():
    script = Script(status(200, b'{"error": "lag"}', retry_after="7"), GOOD)
    assert script.api().json(URL, {}, fault=lambda d: BUSY if "error" in d else None) == {"fine": True}
    assert 7 <= script.slept[0] <= 7 * 1.25
    assert reason(Script(GOOD), fault=lambda d: "api_error: no") == ("api_error: no", False, 1)


def test_backing_off_doubles_with_jitter_and_ends():
    script = Script(status(503))
    with pytest.raises(NoAnswer):
        script.api(attempts=6, backoff_s=5, max_wait_s=60).json(URL, {})
    assert len(script.asked) == 6
    for slept, base in zip(script.slept, [5, 10, 20, 40, 60], strict=True):
        assert base <= slept <= 1.25 * base
    assert len({slept % 5 for slept in script.slept}) == 5


def test_retry_after_is_a_minimum():
    script = Script(status(429, retry_after="30"), status(503, retry_after="0"), GOOD)
    script.api().json(URL, {})
    assert script.slept[0] >= 30
    assert script.slept[1] >= 10


def test_the_longest_retry_after_that_is_waited_for():
    script = Script(status(429, retry_after="120"), GOOD)
    assert script.api().json(URL, {}) == {"fine": True}
    assert script.slept[0] >= 120


def test_a_long_retry_after_is_left_to_the_next_run():
    script = Script(status(429, retry_after="121"), GOOD)
    assert reason(script) == ("http_429", True, 1)
    assert script.slept == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "١٢"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0),
        (
            {
                "retry-after": "Fri, 02 Jan 1970 00:01:00 GMT",
                "date": "Fri, 02 Jan 1970 00:00:00 GMT",
            },
            60,
        ),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -0000"}, 30),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_s(headers, NOW) == seconds


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_is_too_odd(after, date):
    seconds = retry_after_s({"retry-after": after, "date": date}, NOW)
    assert seconds is None or seconds >= 0


def test_messages_show_neither_parameters_nor_headers_nor_bodies():
    script = Script(status(403, b"the key s3cret is not valid"))
    with pytest.raises(NoAnswer) as error:
        script.api().json(URL, {"key": "s3cret"}, {"authorization": "Bearer s3cret"})
    assert one_line(error.value) == f"{URL}: no answer: http_403"


def test_a_key_comes_from_the_environment():
    assert key_from({"MY_KEY": " s3cret\n"}, "MY_KEY", "crawl.key_env") == "s3cret"
    with pytest.raises(InputError, match=r"^crawl\.key_env: .* not set: MY_KEY$"):
        key_from({}, "MY_KEY", "crawl.key_env")
    with pytest.raises(InputError, match=r"line break") as error:
        key_from({"MY_KEY": "s3cret\r\nX-Evil: 1"}, "MY_KEY", "crawl.key_env")
    assert "s3cret" not in str(error.value)


def test_a_key_in_the_place_of_its_variable_is_not_shown():
    with pytest.raises(InputError) as error:
        key_from({}, "sk-4f5bb03c9d", "crawl.key_env")
    assert "4f5bb" not in str(error.value)


def test_texts_of_a_document():
    assert text_of("  Ada \n Lovelace ") == "Ada Lovelace"
    assert text_of("") is None
    assert text_of(3) is None
    assert text_of(json.loads('"\\ud800x"')) == "?x"
    assert len(text_of("x" * 10_000)) == 2000
    assert url_of(" http://example.org/a  b.jpg ") == "http://example.org/a  b.jpg"
    assert url_of(json.loads('"http://example.org/\\ud800"')) is None
    assert url_of(None) is None
    assert records_of([{"a": 1}, None, [], "x"]) == [{"a": 1}]
    assert records_of({"a": 1}) == []
