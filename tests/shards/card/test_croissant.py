"""croissant.json is what MLCommons' own library reads: it validates it, and gets every sample out of the shards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from crawl.output import Output
from shards.beside.ledger import FILE as LEDGER
from shards.card.croissant import CROISSANT
from shards.card.write import write_card
from shards.format.index import read_index
from shards.read import Dataset

READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlcroissant
def plain(value):
    return list(value.size) if hasattr(value, "size") else value.decode() if value is not None else None
dataset = mlcroissant.Dataset(sys.argv[1])
told = {name: [] for name in ("samples", "faces", "documents")}
for name, rows in told.items():
    for record in dataset.records(name):
        rows.append({key: plain(value) for key, value in record.items()})
print(json.dumps(told))
"""


@pytest.fixture
def folder(finished_dataset):
    write_card(None, finished_dataset)
    return finished_dataset


@pytest.fixture
def outside(tmp_path):
    """Run something of mlcroissant's as its user would, with a cache of its own."""

    def run(*arguments):
        environment = {**os.environ, "CROISSANT_CACHE": str(tmp_path / "cache")}
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=250, check=False)

    return run


def test_mlcroissant_validates_it(folder, outside):
    program = os.path.join(os.path.dirname(sys.executable), "mlcroissant")
    done = outside(program, "validate", "--jsonld", folder.path(CROISSANT))
    assert done.returncode == 0, done.stderr
    assert "Done." in done.stderr
    broken = json.loads(folder.read(CROISSANT))
    broken["recordSet"][0]["field"][0]["source"]["fileSet"]["@id"] = "nowhere"
    folder.write(CROISSANT, json.dumps(broken).encode())
    assert outside(program, "validate", "--jsonld", folder.path(CROISSANT)).returncode == 1


def test_mlcroissant_reads_every_sample_out_of_the_shards(folder, outside):
    done = outside(sys.executable, "-c", READ, folder.path(CROISSANT))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with Dataset(folder.url) as dataset:
        samples = {sample.key: sample for sample in dataset.stream()}
    assert sorted(r["samples/key"] for r in told["samples"]) == sorted(samples)
    for record in told["samples"]:
        sample = samples[record["samples/key"]]
        assert record["samples/identity"] == sample.identity
        assert record["samples/image"] == [sample.metadata["size_px"]] * 2
        assert record["samples/licence"] in ("CC BY 4.0", "CC BY-NC-SA 2.0")
    assert {r["faces/key"]: r["faces/image"] for r in told["faces"]} == {key: [24, 24] for key in samples}
    documents = {r["documents/key"]: json.loads(r["documents/json"]) for r in told["documents"]}
    assert documents == {key: sample.metadata for key, sample in samples.items()}


def test_every_file_is_there_by_its_sha256(folder):
    files = {entry["@id"]: entry for entry in json.loads(folder.read(CROISSANT))["distribution"] if "sha256" in entry}
    assert set(files) == {LEDGER, *(f"shards/{shard.file}" for shard in read_index(folder).shards)}
    for name, entry in files.items():
        assert entry["contentUrl"] == name
        assert entry["sha256"] == hashlib.sha256(folder.read(name)).hexdigest()


def test_it_speaks_of_people_plainly_and_names_none(folder):
    document = json.loads(folder.read(CROISSANT))
    assert "biometric data" in document["rai:personalSensitiveInformation"][0]
    assert "1 opted_out" in document["rai:dataCollection"]
    assert "16 kept, 2 rejected, 1 failed, 1 removed" in document["rai:dataCollectionMissingData"]
    assert "Photos taken out so far: 1." in document["rai:dataReleaseMaintenancePlan"]
    assert document["rai:dataBiases"]
    assert document["datePublished"] == "2026-02-03"
    assert document["version"] == "1.0.0"
    assert document["license"][0] == "https://creativecommons.org/licenses/by/4.0/"


def test_an_empty_dataset_has_a_croissant_too(tmp_path, finished_dataset, outside):
    empty = Output(str(tmp_path / "empty"))
    for name in ("config.resolved.yaml", "identities.parquet"):
        empty.write(name, finished_dataset.read(name))
    import pyarrow.parquet as pq

    from shards.format.index import write_index

    write_index(empty, 1, [], [])
    table = pq.read_table(finished_dataset.path(LEDGER))
    pq.write_table(table.filter([status != "kept" for status in table["status"].to_pylist()]), empty.path(LEDGER))
    write_card(None, empty)
    program = os.path.join(os.path.dirname(sys.executable), "mlcroissant")
    assert outside(program, "validate", "--jsonld", empty.path(CROISSANT)).returncode == 0
