"""Shards open in webdataset, datasets, Ray Data, tarfile and tar, by the very lines that docs/data-format.md prints."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import fields, replace
from pathlib import Path

import pytest

from crawl.output import Output
from shards.beside.identities import Identity
from shards.beside.ledger import LedgerRow
from shards.format.index import INDEX, IndexRow, ShardRow, read_index, write_index
from shards.format.sample import to_sample
from shards.format.tar import REQUIRED
from shards.verify.dataset import FIELDS

DOCUMENT = Path(__file__).parents[3] / "docs" / "data-format.md"
OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "WDS_SECURE": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_dataset):
    """(folder that holds `my-dataset`, its samples)."""
    place = tmp_path_factory.mktemp("elsewhere")
    _, samples = write_dataset(place / "my-dataset")
    return place, samples


def snippet(language, marker):
    """The one block of the document that has the marker in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if marker in block)
    return found


def run(code, place, tmp_path):
    """Run a snippet as a reader would: a fresh interpreter beside the dataset. Returns its lines."""
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(tmp_path), "PYTHONPATH": str(DOCUMENT.parents[1])}
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_personae(folder, tmp_path):
    place, samples = folder
    code = snippet("python", "shards.read")
    lines = run(f"{code}\nimport json; print(json.dumps(people))", place, tmp_path)
    given = [line.split(" ", 3) for line in lines[:-1]]
    expected = [[s.key, s.identity, str(len(s.image_jpeg)), s.metadata["general"]] for s in samples]
    assert sorted(given) == sorted(expected)
    identities = [sample.identity for sample in samples]
    assert json.loads(lines[-1]) == {identity: identities.count(identity) for identity in identities}


def test_webdataset(folder, tmp_path):
    place, samples = folder
    lines = run(snippet("python", "webdataset.WebDataset"), place, tmp_path)
    assert lines == [f"{s.key} (48, 48) (24, 24) {s.identity}" for s in samples]


def test_datasets_in_a_stream(folder, tmp_path):
    place, samples = folder
    lines = run(snippet("python", "load_dataset"), place, tmp_path)
    assert lines == [f"{s.key} {(48, 48)} {s.metadata['general']}" for s in samples]


@pytest.mark.parametrize("first", [0, 1], ids=["unknown first", "known first"])
@pytest.mark.parametrize("streaming", [True, False], ids=["in a stream", "as a table"])
def test_datasets_where_some_is_known_and_some_is_not(tmp_path, make_row, write, streaming, first):
    """`datasets` takes a field's type from the first five samples; here the others differ."""
    known = {"keypoints": ((1.5, 2.0), (-3.25, 70.0)) * 6, "keypoint_scores": (0.5, 0.0) * 6, "keypoints_reason": None}
    places = {"author": "someone", "page_url": "https://example.org/", "signals": ("noai",)}

    def row(number):
        unknown = make_row("0" * 16, number)
        if (number >= 7) == bool(first):
            return unknown
        photo = replace(unknown.portrait.photo, **places)
        return replace(unknown, portrait=replace(unknown.portrait, photo=photo, **known))

    samples = [to_sample(row(number)) for number in range(12)]
    write(Output(str(tmp_path / "my-dataset")), 0, sorted(samples, key=lambda sample: sample.key))
    code = snippet("python", "load_dataset") + '    print(json.dumps(sample["json"], sort_keys=True))\n'
    lines = run("import json\n" + (code if streaming else code.replace(", streaming=True", "")), tmp_path, tmp_path)
    found = {read["key"]: read for read in map(json.loads, lines[1::2])}
    assert found == {sample.key: sample.metadata for sample in samples}
    assert sum(read["keypoints"] == [[0, 0]] * 12 for read in found.values()) == (5 if first else 7)


def test_datasets_as_a_table(folder, tmp_path):
    place, samples = folder
    code = snippet("python", "load_dataset").replace(", streaming=True", "")
    lines = run(f"{code}\nprint(samples.column_names, samples[0]['face.jpg'].size)", place, tmp_path)
    assert lines[:-1] == [f"{s.key} {(48, 48)} {s.metadata['general']}" for s in samples]
    assert lines[-1] == "['face.jpg', 'jpg', 'json', '__key__', '__url__'] (24, 24)"


RAY_START = """
import hashlib, ray
ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
"""  # "local": without it Ray joins whatever cluster happens to run on the machine
RAY_HASHES = """
for row in sorted(samples.take_all(), key=lambda row: row["__key__"]):
    print(row["__key__"], hashlib.sha256(row["face.jpg"] + row["jpg"] + row["json"]).hexdigest())
ray.shutdown()
"""


@pytest.mark.slow
def test_ray_data(folder, tmp_path):
    place, samples = folder
    count, *lines = run(RAY_START + snippet("python", "read_webdataset") + RAY_HASHES, place, tmp_path)
    assert count.startswith(f"{len(samples)} ")
    contents = {sample.key: b"".join(content for _, content in sample.members()) for sample in samples}
    assert lines == [f"{key} {hashlib.sha256(contents[key]).hexdigest()}" for key in sorted(contents)]


def test_tarfile(folder):
    place, samples = folder
    found = {}
    for path in sorted(place.glob("my-dataset/shards/*.tar")):
        with tarfile.open(path, "r:") as tar:
            found.update({member.name: tar.extractfile(member).read() for member in tar})
    assert found == {name: content for sample in samples for name, content in sample.members()}


def test_tar(folder, tmp_path):
    place, samples = folder
    (tmp_path / "my-dataset").symlink_to(place / "my-dataset")
    (tmp_path / "pictures").mkdir()
    done = subprocess.run(
        ["sh", "-ec", snippet("sh", "tar ")], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == "", "no complaint about a lone zero block or an old format"
    index = read_index(Output(str(place / "my-dataset")))
    first = [
        sample for sample in samples if sample.key in {row.key for row in index.rows() if row.shard == "00000-000.tar"}
    ]
    names = [name for sample in first for name, _ in sample.members()]
    hashes = [f"{shard.sha256}  my-dataset/shards/{shard.file}" for shard in index.shards]
    assert done.stdout.splitlines() == [*names, *hashes]
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    assert pictures == {name: content for s in first for name, content in s.members() if name.endswith(".jpg")}


def test_the_document_names_every_field_in_order():
    text = DOCUMENT.read_text(encoding="utf-8")
    _, key_json, index, tables, identities = re.split(
        r"### KEY\.json|### index\.json|## Tables|`identities\.parquet`, one", text
    )
    assert re.findall(r"^\| `(\w+)` \|", key_json, re.MULTILINE) == list(FIELDS)
    assert columns(tables) == [field.name for field in fields(LedgerRow)]
    assert columns(identities.partition("## What")[0]) == [field.name for field in fields(Identity)]
    for suffix in REQUIRED:
        assert f"| `KEY.{suffix}` |" in text
    assert json.loads(re.search(r"```json\n(.*?)```", index, re.DOTALL)[1])["format"] == 1


def columns(table):
    names = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    return [name for cell in names for name in re.findall(r"`(\w+)`", cell)]


def test_the_document_prints_a_true_index(tmp_path):
    """The layout of the example is the one that is written."""
    rows = [IndexRow(f"{n:032x}", "00112233445566aa", "00012-000.tar", n * 512, 512) for n in range(2)]
    output = Output(str(tmp_path))
    write_index(output, 16, [ShardRow("00012-000.tar", 2048, "a" * 64, 2, "b" * 32)], rows)
    example = re.search(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[1]

    def shape(text):
        return re.sub(r'"[0-9a-f]{4,}…?"|(?<=[:,])\d+', "_", text)

    assert shape(output.read(INDEX).decode()) == shape(example)
