import json
import random
from dataclasses import asdict

import pytest

from crawl.policy.politeness import FetchSettings, Pace


def pace(seed=0, **settings):
    return Pace(FetchSettings(**settings), random.Random(seed))


def test_the_first_request_waits_for_nothing_and_each_further_for_the_interval():
    host = pace(interval_s=2.0)
    assert host.wait_s(100.0) == 0
    host.asked(100.5)
    assert [host.wait_s(now) for now in (100.5, 101.5, 102.5, 200.0)] == [2.0, 1.0, 0.0, 0.0]
    host.asked(90.0)
    assert host.wait_s(102.0) == 0.5, "an earlier request takes nothing back"


def test_who_takes_a_host_over_waits_for_the_one_before():
    host = Pace(FetchSettings(interval_s=2.0), random.Random(0), begun_at=100.0)
    assert [host.wait_s(now) for now in (100.5, 102.0, 200.0)] == [1.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("crawl_delay_s", "waits_s"), [(None, 2.0), (0.5, 2.0), (7.0, 7.0), (60.0, 60.0), (9999.0, 60.0)]
)
def test_a_longer_crawl_delay_is_obeyed_up_to_a_minute(crawl_delay_s, waits_s):
    host = pace(interval_s=2.0)
    host.slow_down(crawl_delay_s)
    host.asked(10.0)
    assert host.wait_s(10.0) == waits_s


def test_backing_off_doubles_by_chance_and_up_to_the_longest_wait():
    waits = []
    for attempt in range(12):
        host = pace(seed=attempt, backoff_s=1.0, max_wait_s=100.0)
        host.back_off(0.0, attempt, None)
        waits.append(host.wait_s(0.0))
        middle = min(2.0**attempt, 100.0)
        assert 0.5 * middle <= waits[-1] < 1.5 * middle
    assert len({round(wait / 2**n, 6) for n, wait in enumerate(waits[:6])}) == 6, "by chance"
    again = pace(seed=3, backoff_s=1.0, max_wait_s=100.0)
    again.back_off(0.0, 3, None)
    assert again.wait_s(0.0) == waits[3], "the same chance with the same seed"


def test_retry_after_is_the_least_and_closes_the_host_when_it_is_too_long():
    host = pace(backoff_s=1.0, max_wait_s=100.0)
    host.back_off(0.0, 0, 50.0)
    assert host.wait_s(0.0) == 50.0
    host.back_off(0.0, 0, 100.0)
    assert (host.wait_s(0.0), host.closed) == (100.0, None)
    host.back_off(0.0, 0, 101.0)
    assert host.closed == "Retry-After: 101 s"


def test_the_circuit_opens_after_failures_in_a_row_only():
    host = pace(breaker_failures=3)
    for _ in range(2):
        host.failed()
    host.succeeded()
    for _ in range(2):
        host.failed()
    assert host.closed is None
    host.failed()
    assert host.closed == "3 failures in a row"


def test_settings_survive_json_and_name_who_asks():
    settings = FetchSettings(own_hosts=("a.test:81",), contact="https://example.org")
    assert FetchSettings.from_record(json.loads(json.dumps(asdict(settings)))) == settings
    assert settings.agent == "Personae/0.1 (+https://example.org)"
    assert FetchSettings().agent == "Personae/0.1"
