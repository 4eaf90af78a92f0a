"""The gate with a clock that a test moves, and downloads that it makes up."""

from datetime import UTC, datetime, timedelta

import pytest
from scrapy import Request
from scrapy.http import Response
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from crawl.fetching.gate import Gate, Refused
from crawl.fetching.watch import Enough
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import refusal

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
ROBOTS = "User-agent: *\nDisallow: /no"


class Web:
    """Answers by URL; every request takes `seconds`."""

    def __init__(self, answers, seconds=0.25, hosts=("a.test",), begun_at=-9.0, **settings):
        self.clock = Clock()
        self.asked = []
        self.in_flight = {}
        self.most_in_flight = {}
        self._answers = answers
        self._seconds = seconds
        self.gate = Gate(
            FetchSettings(**settings),
            hosts,
            self._download,
            self.clock.seconds,
            lambda seconds: deferLater(self.clock, seconds),
            lambda: START + timedelta(seconds=self.clock.seconds()),
            begun_at,
        )

    async def _download(self, request):
        host = request.url.split("/")[2]
        self.asked.append((round(self.clock.seconds(), 6), request.url, request))
        self.in_flight[host] = self.in_flight.get(host, 0) + 1
        self.most_in_flight[host] = max(self.most_in_flight.get(host, 0), self.in_flight[host])
        await deferLater(self.clock, self._seconds)
        self.in_flight[host] -= 1
        answer = self._answers.get(request.url, 404)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, str):
            raise Refused(refusal(answer), request.url)
        status, headers, body = (answer, {}, b"") if isinstance(answer, int) else answer
        return Response(request.url, status, headers, body)

    def get(self, *requests, seconds=2000, **options):
        """Outcomes, statuses or reasons, of requests made at one moment."""
        outcomes = {}

        def note(result, number):
            outcomes[number] = result.value.rejection.reason if hasattr(result, "value") else result.status

        for number, request in enumerate(requests):
            asked = Request(request) if isinstance(request, str) else request
            Deferred.fromCoroutine(self.gate.get(asked, **options)).addBoth(note, number)
        for _ in range(int(seconds / 0.05)):
            if len(outcomes) == len(requests):
                break
            self.clock.advance(0.05)
        return [outcomes[n] for n in range(len(requests))]

    def urls(self):
        return [url.removeprefix("http://") for _, url, _ in self.asked]

    def times(self):
        return [at for at, _, _ in self.asked]


def robots(text, more=None):
    return {"http://a.test/robots.txt": (200, {}, text.encode())} | (more or {})


def test_requests_made_at_once_go_one_by_one_and_robots_txt_is_asked_first_and_once():
    web = Web(robots(ROBOTS, {f"http://a.test/{n}": 200 for n in range(5)}), interval_s=1.0)
    assert web.get(*[f"http://a.test/{n}" for n in range(5)], "http://a.test/no") == [200] * 5 + ["robots_disallowed"]
    assert web.urls() == ["a.test/robots.txt", *(f"a.test/{n}" for n in range(5))]
    gaps = [later - earlier for earlier, later in zip(web.times(), web.times()[1:], strict=False)]
    assert min(gaps) >= 1.0 + 0.25  # the answer's beginning counts, here its end
    assert max(gaps) <= 1.0 + 0.25 + 3 * 0.05
    assert web.most_in_flight == {"a.test": 1}


def test_ports_and_spellings_share_a_host_and_origins_have_their_own_robots_txt():
    web = Web({}, hosts=("a.test",), interval_s=1.0)
    assert web.get("http://a.test/1", "http://A.test:81/2", "https://a.test./3") == [404] * 3
    assert len([url for url in web.urls() if url.endswith("robots.txt")]) == 3
    assert min(b - a for a, b in zip(web.times(), web.times()[1:], strict=False)) >= 1.0


def test_other_hosts_are_not_asked_but_for_a_robots_txt_that_lies_there():
    web = Web({"http://a.test/robots.txt": (301, {"Location": "http://b.test/robots.txt"}, b""),
               "http://b.test/robots.txt": (200, {}, ROBOTS.encode()),
               "http://a.test/away": (302, {"Location": "http://b.test/x"}, b"")})  # fmt: skip
    assert web.get("http://b.test/1", "http://a.test/no", "http://a.test/away") == [
        "moved",
        "robots_disallowed",
        "moved",
    ]
    assert web.urls() == ["a.test/robots.txt", "b.test/robots.txt", "a.test/away"]


@pytest.mark.parametrize(
    ("answers", "requests", "outcome"),
    [
        ([503, 503, 200], 3, 200),
        ([503, 503, 503, 200], 3, 503),
        ([429, 200], 2, 200),
        ([404, 200], 1, 404),
        (["connection", "connection", 200], 3, 200),
        (["connection", 503, "short_body", 200], 4, 200),
        (["connection", 503, "short_body", "connection"], 5, "connection"),
        (["timeout", 200], 1, "timeout"),
        (["too_large", 200], 1, "too_large"),
        (["tls", 200], 1, "tls"),
        (["dns", 200], 1, "dns"),
    ],
)
def test_what_may_pass_is_asked_for_again_at_once_so_often(answers, requests, outcome):
    web = Web({"http://a.test/x": list(answers)}, interval_s=0.1, retries=2)
    assert web.get("http://a.test/x") == [outcome]
    # One connection error after an answer is free: a kept connection may have been closed just then.
    assert web.urls().count("a.test/x") == requests


def test_a_busy_host_is_waited_for_by_everybody():
    web = Web({"http://a.test/x": [(429, {"Retry-After": "30"}, b""), 200], "http://a.test/y": 200}, interval_s=0.1)
    assert web.get("http://a.test/x", "http://a.test/y") == [200, 200]
    assert web.urls()[1] == "a.test/x"
    assert min(web.times()[2:]) >= 30.0
    date = "Wed, 01 May 2024 12:01:00 GMT"
    web = Web({"http://a.test/x": [(503, {"Retry-After": date}, b""), 200]}, interval_s=0.1)
    assert web.get("http://a.test/x") == [200]
    assert web.times()[-1] >= 60.0


def test_nothing_is_asked_of_a_closed_host_nor_after_the_deadline():
    web = Web({"http://a.test/0": (503, {"Retry-After": "301"}, b"")}, interval_s=0.1)
    assert web.get("http://a.test/0", "http://a.test/1") == [503, "host_unavailable"]
    web = Web({"http://a.test/robots.txt": "timeout"}, interval_s=0.1, breaker_failures=1)
    assert web.get("http://a.test/0") == ["robots_unreachable"]
    web = Web({}, interval_s=5.0, partition_timeout_s=12.0)
    assert web.get(*[f"http://a.test/{n}" for n in range(4)]) == [404, 404, "partition_timeout", "partition_timeout"]
    assert max(web.times()) < 12.0


def test_a_redirect_takes_no_secrets_and_no_conditions_along():
    web = Web({"http://a.test/x": (302, {"Location": "/y#top"}, b""), "http://a.test/y": 200}, user_agent="P/1")
    headers = {"Authorization": "Bearer k", "If-None-Match": "e", "Cookie": "c", "Referer": "r", "Accept": "image/*"}
    assert web.get(Request("http://a.test/x", headers=headers), obey_robots=False) == [200]
    (_, _, first), (_, url, second) = web.asked
    assert set(first.headers) == {b"Authorization", b"If-None-Match", b"Accept", b"User-Agent", b"Accept-Encoding"}
    assert (url, set(second.headers)) == ("http://a.test/y", {b"Accept", b"User-Agent", b"Accept-Encoding"})
    assert first.headers[b"User-Agent"] == b"P/1"


def test_the_reservations_of_a_site_are_asked_for_once():
    web = Web({"http://a.test/.well-known/tdmrep.json": (200, {}, b'[{"location": "/", "tdm-reservation": 1}]')})
    told = []
    for url in ("http://a.test/1", "http://a.test/2"):
        Deferred.fromCoroutine(web.gate.tdm(url)).addBoth(told.append)
    web.clock.pump([0.05] * 200)
    assert [tdm.reserves("http://a.test/1") for tdm in told] == [True, True]
    assert web.urls() == ["a.test/.well-known/tdmrep.json"]


def test_enough_counts_anew_for_each_answer():
    enough = Enough(10)
    for _ in range(2):
        assert not enough.begins({}, None)
        assert [enough.goes_on(b"1234") for _ in range(3)] == [False, False, True]


def test_a_host_rests_between_two_processes_that_ask_it():
    """The one before, a source that listed photos for instance, may have asked until this one began."""
    web = Web(robots(ROBOTS, {"http://a.test/1": 200}), hosts=("a.test", "b.test"), begun_at=0.0, interval_s=2.0)
    assert web.get("http://a.test/1", "http://b.test/1") == [200, 404]
    assert min(web.times()) >= 2.0
    assert web.times()[-1] < 8.0
