"""The card's YAML is what the hub expects, and its numbers are the ledger's."""

import re

import pytest
import yaml
from huggingface_hub import DatasetCard

from crawl.config import CrawlConfig
from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.tables import Entry, Tables
from shards.card import card_text
from shards.config import BuildRun
from shards.identities import write_identities
from shards.index import write_index
from shards.ledger import funnel, read_ledger, write_ledger


@pytest.fixture
def card(output):
    write_ledger(output, 1, "stamp")
    write_identities(output, 1, {})
    write_index(output, 1, [], [])
    return card_text(BuildRun(output=output.url, crawl=CrawlConfig.model_validate({"root": "photos"})), output), output


@pytest.fixture
def output(tmp_path):
    output = Output(str(tmp_path))
    failed = [Entry(k, Photo(k, "i" * 16, k, "", 0), Rejection("crawl", "empty")) for k in "abc"]
    Tables(output).write("crawl", 0, Photo, failed, "f")
    return output


def test_the_metadata_is_yaml_that_the_hub_knows(card):
    text, _ = card
    document = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.S)[1])
    assert document["configs"][0]["data_files"] == [{"split": "train", "path": "shards/*.tar"}]
    assert document["size_categories"] == ["n<1K"]


def test_the_hubs_own_parser_reads_it(card):
    assert DatasetCard(card[0]).data.license == "other"


def test_the_numbers_are_the_ledgers(card):
    text, output = card
    for step in funnel(read_ledger(output)):
        assert f"| {step.stage} | {step.entered} | {step.left} |" in text
    assert "0 verified photos of 0 people" in text
    assert "3 empty" in text
