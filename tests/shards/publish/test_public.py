"""Settings go public without anything that speaks of this machine, its services or its keys."""

import pytest
import yaml

from crawl.config import dump
from crawl.output import Output
from shards.beside.resolved import read_resolved, write_resolved
from shards.card.facts import carry
from shards.card.statements import found
from shards.config import BuildRun
from shards.publish.public import public_settings

WEB = {
    "output": "/home/secret/out",
    "crawl": {
        "sources": [
            {"source": "urls", "path": "/home/secret/urls.csv"},
            {"source": "search", "url": "https://api.example.org/search", "results": "$.items", "image_url": "$.url",
             "key_env": "SECRET_KEY", "key_parameter": "k"},
        ],
        "people": {"list": "csv", "path": "/home/secret/people.csv"},
        "contact": "secret@example.org",
        "own_hosts": ["secret.internal"],
    },
    "filter": {
        "pose": "vitpose",
        "vitpose_model": "/home/secret/vitpose",
        "classifiers": [{"name": "watermark", "model": "/home/secret/marks", "labels": ["y"], "max_probability": 0.5}],
    },
    "caption": {
        "backend": "endpoint",
        "model": "./secret-model",
        "prompt": "/home/secret/prompt.txt",
        "endpoint": {"url": "https://secret.internal/v1", "key_env": "SECRET_KEY", "parameters": {"user": "secret"}},
    },
    "engine": {"address": "ray://secret:10001"},
}  # fmt: skip


@pytest.fixture
def run():
    return BuildRun.model_validate(WEB)


def test_nothing_secret_is_left_and_all_else_is_as_it_was(run):
    public = public_settings(run, "me/mine", "1.0.3")
    text = dump(public)
    assert "secret" not in text.lower()
    assert (public.publish.repo, public.publish.version, public.output) == ("me/mine", "1.0.3", ".")
    models = {"vitpose_model", "classifiers"}
    assert public.filter.model_dump(exclude=models) == run.filter.model_dump(exclude=models)
    assert public.filter.classifiers[0].max_probability == 0.5
    assert public.shards == run.shards
    assert [source.source for source in public.crawl.sources] == ["urls", "search"]


def test_names_of_published_models_and_prompts_stay(run):
    document = run.model_dump(mode="json")
    document["caption"] |= {"backend": "qwen", "model": "Qwen/Qwen2.5-VL-3B-Instruct", "prompt": "thesis"}
    public = public_settings(BuildRun.model_validate(document), "me/mine", "1.0.0")
    assert (public.caption.model, public.caption.prompt) == ("Qwen/Qwen2.5-VL-3B-Instruct", "thesis")


def test_public_settings_are_read_back(run, tmp_path):
    public = public_settings(run, "me/mine", "1.0.0")
    write_resolved(public, Output(str(tmp_path)))
    assert read_resolved(Output(str(tmp_path))) == public
    document = yaml.safe_load((tmp_path / "config.resolved.yaml").read_text())
    assert document["format"] == 1


def test_a_models_folder_is_not_told(run, tmp_path):
    lines = carry(run, Output(str(tmp_path)), "measured").models
    assert any(line.startswith("marks@main") for line in lines)
    assert "secret/" not in " ".join(lines)


def test_how_people_were_found_says_what_is_known_of_their_age(run):
    class OfFacts:
        names, people = 7, 5

    OfFacts.run = run
    assert found(OfFacts) == (
        "Photos were looked for of 7 people, named by a list (csv), in: search, urls; 5 are in the shards. "
        "Known minors and people without a birth date were left out."
    )
