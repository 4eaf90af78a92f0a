"""Run files: the shipped ones load, and what is wrong in one is said with its place."""

from pathlib import Path

import pytest

from caption.captioner import BACKENDS
from caption.config import CaptionConfig, CaptionRun
from caption.models import LICENCES, licences
from crawl.config import dump, load

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
ENDPOINT = {"backend": "endpoint", "model": "m", "endpoint": {"url": "https://host/v1"}}


def config(**caption):
    return CaptionConfig.model_validate(caption)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_run_file_loads_and_names_who_writes(path):
    overrides = ["crawl.start_url=http://h/", "crawl.contact=me@example.org"] if "gallery" in path.read_text() else []
    run = load(CaptionRun, str(path), overrides)
    assert BACKENDS[run.caption.backend].made_by(run.caption)
    assert "key_env" in dump(run)


@pytest.mark.parametrize(
    ("caption", "same"),
    [
        ({**ENDPOINT, "batch_size": 3}, True),
        ({**ENDPOINT, "endpoint": {"url": "http://other/v1", "concurrency": 1, "max_requests": 5}}, True),
        ({**ENDPOINT, "model": "other"}, False),
        ({**ENDPOINT, "revision": "2025-11"}, False),
        ({**ENDPOINT, "prompt": "single"}, False),
        ({**ENDPOINT, "temperature": 0.5}, False),
        ({**ENDPOINT, "max_attempts": 1}, False),
        ({**ENDPOINT, "endpoint": {"url": "https://host/v1", "parameters": {"top_p": 0.5}}}, False),
        ({"backend": "qwen", "model": "m"}, False),
    ],
)
def test_captions_depend_on_what_can_change_them(caption, same):
    def of(settings):
        backend = BACKENDS[settings.backend]
        return backend.made_by(settings), backend.depends_on(settings)

    assert (of(config(**caption)) == of(config(**ENDPOINT))) == same


def test_measured_captions_depend_on_no_model():
    measured = BACKENDS["measured"]
    assert measured.depends_on(config()) == measured.depends_on(config(model="x", prompt="single")) == {}


def test_licences_are_shown():
    assert licences(config()) == []
    assert licences(config(backend="qwen")) == ["captions by Qwen/Qwen2.5-VL-7B-Instruct@main: Apache-2.0"]
    assert "non-commercial" in licences(config(backend="vllm", model="Qwen/Qwen2.5-VL-3B-Instruct"))[0]
    assert "look at its card" in licences(config(backend="qwen", model="someone/else"))[0]
    assert "provider's terms" in licences(config(**ENDPOINT))[0]
    assert {name.split("-VL-")[1].split("-")[0] for name in LICENCES} == {"3B", "7B", "32B", "72B"}
