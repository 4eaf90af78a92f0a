"""What is staged holds what a reader needs and nothing that must stay; a dry run says so and sends nothing."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from crawl.errors import InputError
from crawl.output import Output
from shards.__main__ import main
from shards.beside.resolved import read_resolved
from shards.card.check import differences
from shards.format.index import read_index, write_index
from shards.publish.staging import MARK, stage
from shards.read import Dataset
from shards.verify.dataset import verify_dataset

ROOT = Path(__file__).parents[3]
SECRETS = (
    b"secret",
    b"Nemo",
    b"Person 0",
    b"example.org/lost",
    b"Someone",
    b"working data",
    b"me@example.org",
    b"noai",
)
SHARDS = {"00000-000.tar", "00000-001.tar", "00001-000.tar"}


def contents(folder):
    """Every byte of a folder, also those that parquet packs."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield path.name, path.read_bytes()
        if path.suffix == ".parquet":
            yield path.name, repr(pq.read_table(path).to_pylist()).encode()


def test_only_what_is_on_the_list_is_there(staged):
    tars = {f"shards/{shard.file}" for shard in staged.facts.shards}
    others = {"README.md", "config.resolved.yaml", "croissant.json", "identities.parquet", "ledger.parquet"}
    assert set(staged.files) == {*tars, *others, "shards/index.json"}
    assert {p.name for p in staged.folder.iterdir()} == {*others, "shards", MARK}
    assert {left.name for left in staged.left} == {"photos", "tables", "features", "report.html"}
    assert all(left.why != "no part of a published dataset" for left in staged.left)


def test_nothing_that_must_stay_is_in_any_byte_of_it(staged, finished_dataset):
    before = b"".join(content for _, content in contents(Path(finished_dataset.path(""))))
    assert all(secret in before for secret in SECRETS if secret != b"noai")
    for name, content in contents(staged.folder):
        text = content.replace(b"(noai, noimageai", b"")  # the card's own words
        assert not [secret for secret in SECRETS if secret in text], name


def test_shards_are_links_and_the_copy_is_a_whole_dataset(staged, finished_dataset):
    for shard in staged.facts.shards:
        assert os.path.samefile(staged.folder / "shards" / shard.file, finished_dataset.path(f"shards/{shard.file}"))
    copy = Output(str(staged.folder))
    assert verify_dataset(copy) == []
    assert differences(copy) == []
    with Dataset(copy.url) as dataset:
        assert len([*dataset.stream()]) == 16


def test_the_copys_numbers_are_the_datasets(staged, finished_dataset):
    before = pq.read_table(finished_dataset.path("ledger.parquet")).select(["status", "stage", "reason", "threshold"])
    after = pq.read_table(staged.folder / "ledger.parquet")
    assert after.select(before.column_names).equals(before)
    kept = [row for row in after.to_pylist() if row["status"] == "kept"]
    assert {row["licence"] for row in kept} == {"CC BY 4.0", "CC BY-NC-SA 2.0"}
    assert all(row["key"] and row["sha256"] for row in kept)
    assert all(not row["key"] and not row["identity"] for row in after.to_pylist() if row["status"] != "kept")
    card = DatasetCard((staged.folder / "README.md").read_text())
    assert 'load_dataset("me/mine", split="train")' in card.text
    assert "Photos were looked for of 6 people" in card.text
    assert "* actors of the catalogue: 5 people" in card.text


def test_a_copy_can_be_staged_again(staged, finished_dataset, tmp_path):
    again = stage(read_resolved(finished_dataset), finished_dataset, "me/mine", staged.folder)
    assert again.files == staged.files
    copy = Output(str(staged.folder))
    third = stage(read_resolved(copy), copy, "me/mine", tmp_path / "third")
    assert [(n, (third.folder / n).read_bytes()) for n in third.files] == [
        (n, (again.folder / n).read_bytes()) for n in again.files
    ]


def test_names_go_out_with_a_reason_only(finished_dataset, tmp_path):
    with pytest.raises(InputError, match="names_reason"):
        read_resolved(finished_dataset, ["publish.names=true"])
    run = read_resolved(finished_dataset, ["publish.names=true", "publish.names_reason=all of them agreed in writing"])
    staged = stage(run, finished_dataset, "me/mine", tmp_path / "staged")
    people = pq.read_table(staged.folder / "identities.parquet").to_pylist()
    assert sorted(p["name"] for p in people if p["kept"])[0] == "Person 0"
    assert [p["name"] for p in people if not p["kept"]] == [""]
    assert "all of them agreed in writing" in (staged.folder / "README.md").read_text()


@pytest.fixture
def rewrite(finished_dataset, write):
    """Write the dataset's samples again, one of them changed."""

    def change(**metadata):
        with Dataset(finished_dataset.url) as dataset:
            samples = [*dataset.stream()]
        features = metadata.pop("features", {})
        samples[3] = replace(samples[3], metadata={**samples[3].metadata, **metadata}, features=features)
        shards, rows = [], []
        for bucket in (0, 1):
            of_bucket = [s for s in samples if any(s.identity == i for i in _of_bucket(finished_dataset, bucket))]
            new_shards, new_rows = write(finished_dataset, bucket, of_bucket, 20_000)
            shards, rows = shards + new_shards, rows + new_rows
        write_index(finished_dataset, 2, shards, rows)
        return samples[3]

    return change


def _of_bucket(output, bucket):
    from crawl.photo import bucket_of

    return [identity for identity in read_index(output).identities if bucket_of(identity, 2) == bucket]


@pytest.mark.parametrize(
    "metadata",
    [
        {"image_url": "https://example.org/person%201/a.jpg"},
        {"author": "PERSON 1"},
        {"body": "person_1 in a red coat"},
    ],
)
def test_a_sample_that_names_its_person_stops_it(rewrite, finished_dataset, tmp_path, metadata):
    people = {r["identity"]: r["name"] for r in pq.read_table(finished_dataset.path("identities.parquet")).to_pylist()}
    with Dataset(finished_dataset.url) as dataset:
        number = people[[*dataset.stream()][3].identity].split()[1]
    sample = rewrite(**{k: v.replace("1", number, 1) for k, v in metadata.items()})
    with pytest.raises(
        InputError, match=rf"1 fields of samples hold the name .*: {sample.key} \({next(iter(metadata))}\)"
    ):
        stage(read_resolved(finished_dataset), finished_dataset, "me/mine", tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_features_stop_it(rewrite, finished_dataset, tmp_path, npy):
    sample = rewrite(features={"clip": npy})
    with pytest.raises(InputError, match=rf"{sample.key}\.clip\.npy: features are never published"):
        stage(read_resolved(finished_dataset), finished_dataset, "me/mine", tmp_path / "staged")


@pytest.fixture
def npy():
    import io

    import numpy as np

    file = io.BytesIO()
    np.save(file, np.zeros(4, np.float32))
    return file.getvalue()


def test_a_damaged_shard_stops_it(finished_dataset, tmp_path):
    path = Path(finished_dataset.path("shards/00000-000.tar"))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"00000-000\.tar: is damaged: its sha256"):
        stage(read_resolved(finished_dataset), finished_dataset, "me/mine", tmp_path / "staged")


def test_a_folder_of_somebody_elses_files_is_left_alone(finished_dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is not empty, and no copy of ours"):
        stage(read_resolved(finished_dataset), finished_dataset, "me/mine", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.slow
def test_a_dry_run_says_what_would_go_and_needs_no_network(finished_dataset):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_verysecret"}
    command = [sys.executable, "-m", "shards", "publish", finished_dataset.url, "me/mine"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    for said in ("shards/*.tar", "stays behind", "the originals", "16 of 5 people", "CC BY-NC-SA 2.0", "dry run"):
        assert said in done.stdout
    assert "hf_verysecret" not in done.stdout
    assert Path(f"{finished_dataset.url}.publish/README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine"], "mine: expected OWNER/NAME"),
        (["me/mine/its"], "me/mine/its: expected OWNER/NAME"),
        (["me/mine", "publish.version='1'"], "publish.version: String should match pattern"),
        (["me/mine", "publish.contract=me"], "publish.contract: unknown key (did you mean contact?)"),
        (["me/mine", "--staging", "."], ".: is not empty, and no copy of ours"),
    ],
)
def test_wrong_arguments_are_one_line(finished_dataset, arguments, said):
    with pytest.raises(InputError) as error:
        main(["publish", finished_dataset.url, *arguments])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
