"""The chat API against a server on loopback that answers well, badly, slowly, or not at all."""

import base64
import json
import threading
import time
from datetime import UTC, datetime
from random import Random

import pytest

from caption.answer import SCHEMA
from caption.backends.endpoint import EndpointChat, Outside
from caption.backends.transport import poster
from caption.budget import Budget
from caption.chat import Conversation, NoReply, Reply
from caption.config import CaptionConfig
from crawl.output import Output

SECRET = "sk-very-secret"


def talk(number=0, structured=True):
    return Conversation("1" * 16, b"\xff\xd8 photo %d" % number, "Be plain.", ("Describe.",), structured)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.at, self.sleeps, self._lock = 0.0, [], threading.Lock()

    def now(self):
        return self.at

    def sleep(self, seconds):
        with self._lock:
            self.at += seconds
            self.sleeps.append(seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def chat(chat_server, clock):
    def make(budget=None, timeout_s=5.0, model="vlm", **settings):
        settings = {"url": chat_server.url, "timeout_s": timeout_s, **settings}
        config = CaptionConfig.model_validate({"backend": "endpoint", "model": model, "endpoint": settings})
        headers = {"Authorization": f"Bearer {SECRET}"}
        post = poster(f"{config.endpoint.url}/chat/completions", headers, config.endpoint.timeout_s)
        outside = Outside(post, clock.now, lambda: datetime(2025, 1, 1, tzinfo=UTC), clock.sleep, Random(0))
        return EndpointChat(config, outside, SECRET, budget)

    return make


def test_a_question_holds_the_photo_the_schema_and_the_key(chat, chat_server, good_answer):
    (reply,) = chat(parameters={"top_p": 0.9, "max_tokens": None, "max_completion_tokens": 200}).ask([talk()])
    assert reply == Reply(json.dumps(good_answer), 300, 40)
    (request,), (headers,) = chat_server.requests, chat_server.headers
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["temperature"], request["top_p"]) == ("vlm", 0.0, 0.9)
    assert "max_tokens" not in request
    assert request["max_completion_tokens"] == 200
    system, user = request["messages"]
    assert system == {"role": "system", "content": "Be plain."}
    photo, text = user["content"]
    assert base64.b64decode(photo["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) == talk().image_jpeg
    assert text == {"type": "text", "text": "Describe."}
    assert request["response_format"]["json_schema"]["schema"] == SCHEMA
    assert headers["Authorization"] == f"Bearer {SECRET}"


def test_a_free_turn_asks_for_no_form(chat, chat_server):
    chat().ask([talk(structured=False)])
    assert "response_format" not in chat_server.requests[0]


def test_order_is_kept_and_concurrency_is_bounded(chat, chat_server):
    def slow_and_numbered(n, request):
        threading.Event().wait(0.03 if n % 2 else 0.06)
        url = request["messages"][1]["content"][0]["image_url"]["url"]
        return base64.b64decode(url.split(",")[1]).decode("latin-1")

    chat_server.behave = slow_and_numbered
    replies = chat(concurrency=3).ask([talk(n) for n in range(12)])
    assert [reply.text.split()[-1] for reply in replies] == [str(n) for n in range(12)]
    assert 2 <= chat_server.most_at_once <= 3


@pytest.mark.parametrize("refusing", [["json_schema"], ["json_schema", "json_object"]])
def test_a_server_that_refuses_the_form_is_asked_for_a_looser_one(chat, chat_server, good_answer, refusing):
    def picky(n, request):
        if request.get("response_format", {}).get("type") in refusing:
            return 400, {}, json.dumps({"error": {"message": "response_format is not supported"}})
        return json.dumps(good_answer)

    chat_server.behave = picky
    asking = chat(concurrency=1)
    assert all(isinstance(reply, Reply) for reply in asking.ask([talk(0), talk(1), talk(2)]))
    assert len(chat_server.requests) == 3 + len(refusing)  # it is refused once, then not asked for again


def test_a_photo_that_is_refused_loosens_nothing(chat, chat_server, good_answer):
    def dislikes_one(n, request):
        if base64.b64encode(talk(1).image_jpeg).decode() in json.dumps(request):
            return 400, {}, json.dumps({"error": {"message": "image is not allowed"}})
        return json.dumps(good_answer)

    chat_server.behave = dislikes_one
    told = chat(concurrency=1).ask([talk(0), talk(1), talk(2)])
    assert [reply.end for reply in told] == ["stop", "refused", "stop"]
    assert told[1].text == "http_400: image is not allowed"
    assert "json_schema" in json.dumps(chat_server.requests[-1]["response_format"])


@pytest.mark.parametrize(
    "bad",
    [
        (429, {"Retry-After": "7"}, "{}"),
        (500, {}, "oops"),
        (503, {"Retry-After": "7"}, ""),
        (529, {}, "{}"),
        (408, {}, ""),
        (200, {}, "this is not JSON"),
        (200, {}, '{"choices": []}'),
        (200, {}, '{"choices": [{"message": null}]}'),
        (200, {}, "[" * 100_000),
        (200, {"Content-Length": "900"}, '{"choices"'),
        (200, {}, "\n"),
        "drop",
    ],
)
def test_what_passes_is_tried_again(chat, chat_server, good_answer, clock, bad):
    chat_server.behave = lambda n, request: bad if n < 3 else json.dumps(good_answer)
    (reply,) = chat(backoff_s=2.0, timeout_s=0.5 if "900" in str(bad) else 5.0).ask([talk()])
    assert reply.text == json.dumps(good_answer)
    assert len(chat_server.requests) == 3
    waited = sum(clock.sleeps)
    assert waited >= (14.0 if "Retry-After" in str(bad) else 1.0 + 2.0)
    assert waited <= (14.0 if "Retry-After" in str(bad) else 0) + 1.5 * (2.0 + 4.0)


def test_retry_after_holds_for_every_question(chat, chat_server, clock, good_answer):
    """The second question is not sent before the pause that the first one's answer asked for is over."""
    sent_at = []

    def first_is_busy(n, request):
        sent_at.append(clock.at)
        return (429, {"Retry-After": "60"}, "{}") if n == 1 else json.dumps(good_answer)

    chat_server.behave = first_is_busy
    chat(concurrency=1, backoff_s=0.0).ask([talk(0), talk(1)])
    assert [at >= 60 for at in sent_at] == [False, True, True]


def test_an_answer_that_takes_too_long_is_a_timeout(chat, chat_server):
    chat_server.behave = lambda n, request: 1.5
    (told,) = chat(timeout_s=0.2, tries=1).ask([talk()])
    assert told == NoReply("timeout", "timed out")


def test_a_body_that_drips_ends_in_time(chat, chat_server):
    chat_server.drip_s = 0.05
    chat_server.behave = lambda n, request: (200, {}, "{" * 200)
    start = time.monotonic()
    (told,) = chat(timeout_s=0.4, tries=1).ask([talk()])
    assert told.reason == "timeout"
    assert time.monotonic() - start < 2.0


def test_an_endless_body_is_refused(chat, chat_server):
    chat_server.behave = lambda n, request: (200, {}, b" " * (5 * 2**20))
    (told,) = chat(tries=1).ask([talk()])
    assert (told.reason, told.detail) == ("connection", "the answer is longer than 4,194,304 bytes")


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "the key is not accepted"), (402, "no credit"), (403, "may not be used"), (404, "no such model")],
)
def test_what_no_photo_would_pass_ends_the_run_at_once(chat, chat_server, status, words):
    chat_server.behave = lambda n, request: (status, {}, json.dumps({"error": {"message": f"wrong key {SECRET}"}}))
    told = chat(concurrency=1).ask([talk(n) for n in range(5)])
    assert all(t.stops and words in t.detail and "\n" not in t.detail for t in told)
    assert all(chat_server.url in t.detail and SECRET not in t.detail for t in told)
    assert len(chat_server.requests) == 1


def test_too_long_a_pause_ends_the_run(chat, chat_server):
    chat_server.behave = lambda n, request: (429, {"Retry-After": "3600"}, "{}")
    (told,) = chat(max_wait_s=60).ask([talk()])
    assert told.stops
    assert "asks for a pause of 3600 s" in told.detail
    assert len(chat_server.requests) == 1


def test_an_outage_ends_the_run_and_one_bad_photo_does_not(chat, chat_server, good_answer):
    def breaks_on_one(n, request):
        return (500, {}, "x") if base64.b64encode(talk(1).image_jpeg).decode() in json.dumps(request) else good

    good = json.dumps(good_answer)
    chat_server.behave = breaks_on_one
    told = chat(concurrency=1, tries=2).ask([talk(0), talk(1), talk(2), talk(3)])
    assert [getattr(t, "reason", "reply") for t in told] == ["reply", "http_500", "reply", "reply"]
    assert not told[1].stops
    chat_server.behave = lambda n, request: (502, {}, "bad gateway")
    told = chat(concurrency=1, tries=2).ask([talk(n) for n in range(9)])
    assert [t.stops for t in told] == [False, False] + [True] * 7
    assert "3 questions in a row got no answer: bad gateway" in told[2].detail


def test_a_wrong_run_file_ends_the_run_before_it_costs_every_photo(chat, chat_server):
    chat_server.behave = lambda n, request: (400, {}, json.dumps({"error": "max_tokens is too large"}))
    told = chat(concurrency=1).ask([talk(n, structured=False) for n in range(9)])
    assert told[:2] == [NoReply("refused")] * 2
    assert told[-1].stops
    assert "max_tokens is too large" in told[-1].detail
    assert len(chat_server.requests) == 3


def test_nobody_there(chat):
    (told,) = chat(url="http://127.0.0.1:9/v1", tries=2).ask([talk()])
    assert told.reason == "connection"
    assert "refused" in told.detail


def test_redirects_are_not_followed(chat, chat_server):
    chat_server.behave = lambda n, request: (302, {"Location": f"{chat_server.url}/elsewhere"}, "")
    (told,) = chat(tries=1).ask([talk()])
    assert told.reason == "http_302"
    assert len(chat_server.requests) == 1


def test_the_budget_counts_every_request_and_stops_with_one_line(chat, chat_server, tmp_path, good_answer):
    chat_server.behave = lambda n, request: (500, {}, "x") if n == 1 else json.dumps(good_answer)
    told = chat(Budget(Output(str(tmp_path)), 4, "a", 2), concurrency=1, max_requests=4).ask(
        [talk(n) for n in range(6)]
    )
    assert [isinstance(t, Reply) for t in told] == [True] * 3 + [False] * 3
    assert told[3].stops
    assert told[3].detail.startswith("caption.endpoint.max_requests: all 4 requests are spent")
    assert len(chat_server.requests) == 4


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (("cut", "length"), Reply("cut", 300, 40, "length")),
        ((None, "content_filter"), Reply("", 300, 40, "refused")),
        (([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}], "stop"), Reply("in parts", 300, 40)),
        (("half \ud83d", "stop"), Reply("half ?", 300, 40)),
    ],
)
def test_completions_in_every_shape(chat, chat_server, completion, answer, reply):
    chat_server.behave = lambda n, request: (200, {}, completion(*answer))
    assert chat().ask([talk()]) == [reply]


def test_a_refusal_in_its_own_field(chat, chat_server, completion):
    chat_server.behave = lambda n, request: (200, {}, completion(None, refusal="I would rather not."))
    assert chat().ask([talk()])[0].end == "refused"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://host/v1"}, "expected http"),
        ({"url": "https://user:pw@host/v1"}, "no user, password"),
        ({"url": "https://host/v1?key=1"}, "no user, password"),
        ({"url": "https://host/v1", "parameters": {"api_key": "x"}}, "key_env"),
        ({}, "name the API"),
    ],
)
def test_settings_hold_no_secret(settings, message):
    with pytest.raises(ValueError, match=message):
        CaptionConfig.model_validate({"backend": "endpoint", "model": "m", "endpoint": settings})
