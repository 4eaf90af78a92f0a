"""What sources list is remembered; only what they could not list, for a reason that may pass, is asked for again."""

import json
from datetime import UTC, datetime
from random import Random

import pytest

from crawl.config import CrawlRun
from crawl.fetching.api import Answer, Api, Patience
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import identity_key
from crawl.wanted import wanted_targets

PEOPLE = [Person(identity_key(name), name, "test", "text") for name in ("Ada", "Bob", "Eve")]


@pytest.fixture
def search(tmp_path):
    """List through a search whose answers are given by person; returns (URLs by person, who was asked for)."""
    source = {"source": "search", "url": "https://s.test/q", "results": "r", "image_url": "u", "query": "{name}",
              "page_parameter": "page"}  # fmt: skip
    run = CrawlRun.model_validate(
        {"output": str(tmp_path), "crawl": {"sources": [source], "contact": "me@example.org", "max_bytes": 9}}
    )

    def listed(**pages):
        asked = []

        def get(url, parameters, headers):
            asked.append(parameters["q"])
            answers = pages[parameters["q"]]
            answer = answers[min(int(parameters["page"]), len(answers)) - 1]
            if isinstance(answer, int):
                return Answer(answer, {}, b"")
            return Answer(200, {}, json.dumps({"r": [{"u": f"http://a.test/{name}"} for name in answer]}).encode())

        api = Api(get, lambda seconds: None, lambda: datetime(2026, 1, 1, tzinfo=UTC), Random(0), Patience(attempts=1))
        found = list(wanted_targets(run.crawl, Output(run.output), api, PEOPLE, {}))
        targets = [item.target for item in found if item.target is not None]
        by = {p.name: [t.image_url[14:] for t in targets if t.name == p.name] for p in PEOPLE}
        return by, sorted(set(asked)), [item.unlisted.rejection.detail for item in found if item.unlisted is not None]

    return listed


def test_only_who_could_not_be_listed_is_asked_for_again(search):
    first = search(Ada=[["1"], []], Bob=[["2"], ["3"], 503], Eve=[404])
    assert first == ({"Ada": ["1"], "Bob": ["2", "3"], "Eve": []}, ["Ada", "Bob", "Eve"], ["http_503", "http_404"])
    assert search(Bob=[["2"], ["3"], ["4"], []]) == (
        {"Ada": ["1"], "Bob": ["2", "3", "4"], "Eve": []},
        ["Bob"],
        ["http_404"],
    )
    assert search()[1] == [], "a 404 is final, and all else is known"


def test_a_worse_day_takes_nothing_away(search):
    first = search(Ada=[["1"], []], Bob=[["2"], ["3"], 429], Eve=[[]])[0]
    assert search(Bob=[503]) == (first, ["Bob"], ["http_429"])
    assert search(Bob=[["2"], []]) == (first | {"Bob": ["2"]}, ["Bob"], []), "a whole list counts, also a shorter one"
