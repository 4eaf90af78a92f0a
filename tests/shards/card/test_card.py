"""The card's YAML is what the hub expects, and every number on it is the ledger's, the index' or the settings'."""

import json
import os
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard

from crawl.errors import InputError
from crawl.output import Output
from shards.__main__ import main
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import funnel, read_ledger
from shards.beside.resolved import RESOLVED, read_resolved, write_resolved
from shards.card.check import differences
from shards.card.croissant import CROISSANT
from shards.card.write import CARD, card_files, write_card
from shards.config import BuildRun


@pytest.fixture
def carded(finished_dataset):
    assert write_card(None, finished_dataset)
    return finished_dataset


def text_of(output):
    return output.read(CARD).decode()


def with_publish(output, **settings):
    run = read_resolved(output).model_dump(mode="json")
    write_resolved(BuildRun.model_validate(run | {"publish": settings}), output)


def test_the_metadata_is_yaml_that_the_hub_knows(carded):
    document = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text_of(carded), re.S)[1])
    assert document["configs"][0]["data_files"] == [{"split": "train", "path": "shards/*.tar"}]
    assert document["size_categories"] == ["n<1K"]
    assert (document["license"], document["license_name"]) == ("other", "per-photo")


@pytest.mark.slow
def test_load_dataset_reads_the_folder_by_its_card(carded, tmp_path):
    code = "import sys, datasets; print(datasets.load_dataset(sys.argv[1])['train'].num_rows)"
    environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code, carded.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.stdout.split() == ["16"], done.stderr


def test_the_hubs_own_parser_reads_it_and_writes_it_again(carded):
    card = DatasetCard(text_of(carded))
    assert card.data.license == "other"
    assert yaml.safe_load(card.data.to_yaml()) == yaml.safe_load(text_of(carded).split("---\n")[1])
    assert card.text.strip() == text_of(carded).split("---\n", 2)[2].strip()


def test_the_numbers_are_the_ledgers_and_the_index(carded):
    text = text_of(carded)
    living = [row for row in read_ledger(carded).to_pylist() if row["status"] != "removed"]
    assert "20 photos found: 16 kept, 2 rejected, 1 failed, 1 removed." in text
    assert "| crawl | 19 | 18 | 1 opted_out |" in text
    assert "| verify | not_this_person | 1 | 0.4 |" in text
    assert len(living) == 19
    assert "16 verified photos of 5 people" in text
    assert "* actors of the catalogue: 5 people" in text
    assert "Photos were looked for of 6 people" in text
    assert "| 1–4 | 4 |" in text
    assert "| 5–9 | 1 |" in text
    assert "| 100–299 kB | 16 |" in text
    assert "Fetched from 2026-02-03 to 2026-02-03." in text
    assert "* 1 opted_out: " in text
    assert "Photos taken out so far: 1." in text


def test_licences_are_rolled_up_and_the_strictest_is_said(carded):
    text = text_of(carded)
    assert "| [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/) | credit | 14 |" in text
    strictest = "[CC BY-NC-SA 2.0](https://creativecommons.org/licenses/by-nc-sa/2.0/)"
    assert f"The most restrictive is **{strictest}** (credit; no commercial use;" in text


def test_one_known_licence_is_the_datasets(finished_dataset):
    table = pq.read_table(finished_dataset.path(LEDGER))
    rows = [{**row, "licence": "CC BY 4.0"} for row in table.to_pylist()]
    pq.write_table(table.from_pylist(rows, schema=table.schema), finished_dataset.path(LEDGER))
    write_card(None, finished_dataset)
    assert DatasetCard(text_of(finished_dataset)).data.license == "cc-by-4.0"


def test_models_for_research_only_are_said_loudly(finished_dataset):
    run = read_resolved(finished_dataset).model_dump(mode="json")
    run["filter"] |= {"models": "insightface", "accept_licence": "insightface-non-commercial"}
    write_resolved(BuildRun.model_validate(run), finished_dataset)
    write_card(None, finished_dataset)
    assert "**Weights for non-commercial use only took part**" in text_of(finished_dataset)
    assert (
        "non-commercial research only" in json.loads(finished_dataset.read(CROISSANT))["rai:machineAnnotationTools"][0]
    )


def test_contact_title_and_version_come_from_the_settings(finished_dataset):
    with_publish(finished_dataset, title="Faces of Utopia", version="2.1.0", contact="takedown@example.org")
    write_card(None, finished_dataset)
    text = text_of(finished_dataset)
    assert "# Faces of Utopia" in text
    assert "version 2.1.0" in text
    assert "can have photos removed: ask takedown@example.org." in text


def test_card_and_croissant_name_nobody_and_no_path(carded):
    for name in (CARD, CROISSANT):
        content = carded.read(name).decode()
        assert not re.search(r"Person \d|Nemo|secret|example\.org/lost|Someone", content), name


def test_the_same_dataset_gives_the_same_bytes_and_is_not_written_again(carded):
    before = {name: carded.read(name) for name in (CARD, CROISSANT)}
    assert not write_card(None, carded)
    assert not write_card(read_resolved(carded), carded)
    assert before == {name: text.encode() for name, text in card_files(None, Output(carded.url)).items()}


def test_check_is_content_with_what_was_written(carded, capsys):
    assert main(["card", carded.url, "--check"]) == 0
    assert "are true" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (CARD, "16 kept", "17 kept", "README.md: found 17, expected 16 in '20 photos found: 16 kept"),
        (CARD, "| crawl | 19 | 18 |", "| crawl | 19 | 15 |", "README.md: found 15, expected 18 in"),
        (CARD, "| 5–9 | 1 |\n", "", "README.md: expected '| 5–9 | 1 |', not found"),
        (CROISSANT, '"version": "1.0.0"', '"version": "1.0.7"', "croissant.json: version: found 1.0.7, expected 1.0.0"),
        (CROISSANT, "5 people", "6 people", "croissant.json: description: found 6, expected 5"),
        (CROISSANT, "@context", "@kontext", "croissant.json: @context.@language: found nothing, expected 'en'"),
        (CROISSANT, "{", "", "croissant.json: is not valid JSON"),
    ],
)
def test_check_names_file_found_and_expected_and_writes_nothing(carded, capsys, name, old, new, said):
    wrong = carded.read(name).decode().replace(old, new, 1).encode()
    carded.write(name, wrong)
    assert main(["card", carded.url, "--check"]) == 1
    assert said in capsys.readouterr().out
    assert carded.read(name) == wrong


def test_every_number_of_the_text_is_checked(carded):
    """Whichever number of the card's body is changed, the check finds it."""
    text = text_of(carded)
    for number in re.finditer(r"\d+", text):
        other = str(int(number[0]) + 1)
        carded.write(CARD, f"{text[: number.start()]}{other}{text[number.end() :]}".encode())
        assert differences(carded), text[number.start() - 20 : number.end() + 20]


def test_a_ledger_unlike_the_index_is_said(carded):
    table = pq.read_table(carded.path(LEDGER))
    pq.write_table(table.slice(1), carded.path(LEDGER))
    assert differences(carded)[0] == "shards/index.json: 16 samples, ledger.parquet keeps 15"


def test_a_missing_card_is_a_difference(carded):
    carded.remove(CARD)
    assert differences(carded) == ["README.md: is missing"]


@pytest.mark.parametrize("name", [RESOLVED, LEDGER, "identities.parquet", "shards/index.json"])
def test_a_folder_that_is_no_dataset_is_one_line(finished_dataset, name):
    finished_dataset.remove(name)
    with pytest.raises(ValueError, match=name):
        write_card(None, finished_dataset)
    assert not finished_dataset.exists(CARD)


@pytest.mark.parametrize("name", [LEDGER, "identities.parquet"])
def test_a_damaged_table_is_one_line(finished_dataset, name):
    finished_dataset.write(name, finished_dataset.read(name)[:200])
    with pytest.raises(InputError, match="is damaged"):
        write_card(None, finished_dataset)


def test_the_funnel_is_the_ledgers(carded):
    ledger = read_ledger(carded)
    living = ledger.filter([status != "removed" for status in ledger["status"].to_pylist()])
    for step in funnel(living):
        assert f"| {step.stage} | {step.entered} | {step.left} |" in text_of(carded)
