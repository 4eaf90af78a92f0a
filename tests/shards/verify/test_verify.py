"""Checking a dataset: silence when all is well, and every fault named with its file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Photo
from crawl.tombstones import NO_TOMBSTONES, write_tombstones
from shards.__main__ import main
from shards.beside.ledger import row_of, save_ledger
from shards.features.feature import MadeFrom
from shards.features.tars import FeatureTars
from shards.format.index import INDEX, ShardRow, read_index, write_index
from shards.format.sample import to_sample
from shards.format.tar import sample_size
from shards.read import Dataset
from shards.verify.dataset import FIELDS, rows_by_shard, verify_dataset, verify_shard, verify_tar
from shards.verify.parallel import on_ray, worth


@pytest.fixture(scope="module")
def clean(tmp_path_factory, write_dataset):
    return write_dataset(tmp_path_factory.mktemp("clean"))


def test_a_clean_dataset_and_each_of_its_tars(clean):
    output, _ = clean
    assert verify_dataset(output) == []
    for shard, rows in rows_by_shard(read_index(output)):
        assert verify_shard(output, shard, rows) == []
        assert verify_tar(output.path(f"shards/{shard.file}")) == []


def test_every_shard_gets_its_own_rows(clean):
    output, samples = clean
    by_shard = list(rows_by_shard(read_index(output)))
    assert [shard for shard, _ in by_shard] == list(read_index(output).shards)
    assert [row.key for _, rows in by_shard for row in rows] == [sample.key for sample in samples]


def test_fields_are_those_of_a_sample(make_row):
    assert list(FIELDS) == list(to_sample(make_row("0" * 16, 1)).metadata)


def test_a_count_that_differs_is_named(clean):
    output, _ = clean
    shard, rows = next(rows_by_shard(read_index(output)))
    (problem,) = verify_shard(output, replace(shard, samples=shard.samples + 1), rows)
    assert problem == f"shards/{shard.file}: has 3 readable samples, the index says 4"


@pytest.mark.parametrize("checksum", ["sha256", "xxh3_128"])
def test_each_checksum_is_checked(clean, checksum):
    output, _ = clean
    shard, rows = next(rows_by_shard(read_index(output)))
    right, wrong = getattr(shard, checksum), "0" * len(getattr(shard, checksum))
    (problem,) = verify_shard(output, replace(shard, **{checksum: wrong}), rows)
    assert problem == f"shards/{shard.file}: its {checksum} is {right}, the index says {wrong}"


def test_an_index_without_fast_checksums_is_no_fault(clean):
    output, _ = clean
    for shard, rows in rows_by_shard(read_index(output)):
        assert verify_shard(output, replace(shard, xxh3_128=None), rows) == []


@pytest.fixture
def folder(tmp_path, clean):
    shutil.copytree(clean[0].url, tmp_path / "dataset")
    return Output(str(tmp_path / "dataset"))


def change(output, name, edit):
    content = bytearray(output.read(name))
    edit(content)
    output.write(name, bytes(content))


def overwrite(at, value):
    def edit(content):
        content[at] ^= value

    return edit


def shorten(content):
    del content[-512:]


def lengthen(content):
    content += bytes(512)


FIRST = "shards/00000-000.tar"
DAMAGES = {
    "missing tar": (lambda o: o.remove(FIRST), f"{FIRST}: is missing"),
    "missing index": (lambda o: o.remove(INDEX), "not found"),
    "broken index": (lambda o: o.write(INDEX, b"{"), "not valid JSON"),
    "torn": (lambda o: change(o, FIRST, shorten), f"{FIRST}: has .* bytes, the index says"),
    "added to": (lambda o: change(o, FIRST, lengthen), f"{FIRST}: has .* bytes, the index says"),
    "a bit of a header": (lambda o: change(o, FIRST, overwrite(20, 1)), f"{FIRST}: has a damaged header"),
    "a bit of a picture": (lambda o: change(o, FIRST, overwrite(900, 1)), f"{FIRST}: its sha256 is"),
    "a stray tar": (lambda o: o.write("shards/00009-000.tar", b""), "shards/00009-000.tar: is not in the index"),
    "a stray file": (lambda o: o.write("shards/names.csv", b""), "shards/names.csv: is not in the index"),
    "two tars exchanged": (
        lambda o: os.rename(o.path("shards/00001-000.tar"), o.path(FIRST)),
        f"{FIRST}: holds .* where the index has",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named(folder, what):
    damage, expected = DAMAGES[what]
    damage(folder)
    problems = verify_dataset(folder)
    assert any(re.search(expected, problem) for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def test_all_damage_is_named_not_the_first_alone(folder):
    names = [f"shards/{name}" for name in folder.names("shards") if name.endswith(".tar")]
    for name in names:
        change(folder, name, overwrite(900, 1))
    assert {problem.partition(":")[0] for problem in verify_dataset(folder)} == set(names)


def written(tmp_path, write, samples):
    """A dataset of these samples, whatever they are, with an index that agrees."""
    output = Output(str(tmp_path))
    write_index(output, 2, *write(output, 0, samples))
    return output


def noise():
    return b"\xff\xd8\xff" + hashlib.sha256(b"noise").digest() * 20


def oblong():
    buffer = io.BytesIO()
    Image.new("RGB", (48, 40)).save(buffer, "JPEG")
    return buffer.getvalue()


def without(sample, field):
    return replace(sample, metadata={k: v for k, v in sample.metadata.items() if k != field})


def with_field(sample, field, value):
    return replace(sample, metadata={**sample.metadata, field: value})


WRONG_SAMPLES = {
    "a picture that is none": (lambda s: replace(s, image_jpeg=noise()), "the jpg does not decode"),
    "half a picture": (lambda s: replace(s, image_jpeg=s.image_jpeg[:-200]), "the jpg does not decode"),
    "an empty face": (lambda s: replace(s, face_jpeg=b""), "the face.jpg does not decode"),
    "an oblong face": (lambda s: replace(s, face_jpeg=oblong()), "the face.jpg is not square: 48 × 40 px"),
    "another size": (lambda s: with_field(s, "size_px", 64), "the jpg is 48 px a side, the JSON says 64"),
    "text for a number": (lambda s: with_field(s, "face_score", "high"), "face_score in the JSON is 'high'"),
    "true for a number": (lambda s: with_field(s, "faces_in_photo", True), "faces_in_photo in the JSON is True"),
    "eleven keypoints": (
        lambda s: with_field(s, "keypoints", [[0.0, 0.0]] * 11),
        "keypoints in the JSON are not 12 points",
    ),
    "keypoints of one number": (
        lambda s: with_field(s, "keypoints", [[0.0]] * 12),
        "keypoints in the JSON are not 12 points",
    ),
    "no keypoints at all": (lambda s: with_field(s, "keypoints", []), "keypoints in the JSON are not 12 points"),
    "null for keypoints": (lambda s: with_field(s, "keypoints", None), "keypoints in the JSON is None"),
    "a score above one": (
        lambda s: with_field(s, "keypoint_scores", [0.5] * 11 + [1.5]),
        "keypoint_scores in the JSON are not 12 numbers of 0–1",
    ),
    "a score that is text": (
        lambda s: with_field(s, "keypoint_scores", [0.5] * 11 + ["1"]),
        "keypoint_scores in the JSON are not 12 numbers of 0–1",
    ),
    "null for text": (lambda s: with_field(s, "general", None), "general in the JSON is None"),
    **{f"no {field}": (lambda s, f=field: without(s, f), f"the JSON has no {field}") for field in list(FIELDS)[2:]},
}


@pytest.mark.parametrize("what", WRONG_SAMPLES)
def test_a_sample_that_breaks_a_promise_is_named(tmp_path, make_bucket, write, what):
    spoil, expected = WRONG_SAMPLES[what]
    good, spoilt, other = make_bucket([3])
    problems = verify_dataset(written(tmp_path, write, [good, spoil(spoilt), other]))
    assert problems
    assert all(problem.startswith(f"{FIRST}: {spoilt.key}: ") for problem in problems)
    assert any(problem.endswith(expected) or f"{expected}: " in problem for problem in problems)


def test_an_identity_in_another_bucket_is_named(tmp_path, make_bucket, write):
    output = Output(str(tmp_path))
    write_index(output, 2, *write(output, 1, make_bucket([2], bucket=0)))
    (problem,) = verify_dataset(output)
    assert problem.startswith("shards/00001-000.tar: identity ")
    assert problem.endswith("belongs into bucket 00000")


def test_samples_of_one_identity_apart_in_a_tar(tmp_path, make_bucket):
    samples = make_bucket([2, 2])
    path = tmp_path / "mixed.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in (samples[0], samples[2], samples[1], samples[3]):
            for name, content in sample.members():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    os.truncate(path, sum(sample_size(sample) for sample in samples) + 1024)  # tarfile pads with more zeros
    expected = sorted({s.identity for s in samples})
    assert verify_tar(path) == [f"{path}: the samples of identity {i} are not adjacent" for i in expected]


def test_the_same_sample_again_later_in_a_tar(tmp_path, make_bucket, write):
    samples = make_bucket([1, 1])
    output = written(tmp_path, write, samples)
    content = output.read(FIRST)
    row = next(iter(read_index(output).rows()))
    (tmp_path / "twice.tar").write_bytes(content[:-1024] + content[: row.num_bytes] + bytes(1024))
    problems = verify_tar(tmp_path / "twice.tar")
    assert f"{tmp_path}/twice.tar: {row.key} is there twice" in problems


def test_a_tar_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no\.tar: no such file"):
        verify_tar(tmp_path / "no.tar")


PLAIN = {
    "a picture that is none": "the jpg is no whole picture",
    "half a picture": "the jpg is no whole picture",
    "an empty face": "the face.jpg is no whole picture",
    "an oblong face": r"the face.jpg is not square: 1,920 pixels",
    "another size": r"the jpg has 2,304 pixels, the JSON says 64 a side",
}


@pytest.mark.parametrize("what", PLAIN)
def test_pictures_by_their_structure_alone(tmp_path, make_bucket, write, what):
    spoil, _ = WRONG_SAMPLES[what]
    good, spoilt, other = make_bucket([3])
    problems = verify_dataset(written(tmp_path, write, [good, spoil(spoilt), other]), decode=False)
    assert problems == [f"{FIRST}: {spoilt.key}: {PLAIN[what]}"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("general", "", "general in the JSON is empty"),
        ("body", "", "body in the JSON is empty"),
        ("trigger_position", 3, "trigger_position 3 in the JSON is not behind the class word 'person'"),
        ("trigger_position", 900, "trigger_position 900 in the JSON is not behind the class word 'person'"),
    ],
)
def test_a_caption_that_is_missing(tmp_path, make_bucket, write, field, value, expected):
    good, spoilt = make_bucket([2])
    problems = verify_dataset(written(tmp_path, write, [good, with_field(spoilt, field, value)]))
    assert problems == [f"{FIRST}: {spoilt.key}: {expected}"]


@pytest.mark.slow
def test_several_processes_find_the_same_in_the_same_order(folder):
    for name in [f"shards/{name}" for name in folder.names("shards") if name.endswith(".tar")]:
        change(folder, name, overwrite(900, 1))
    assert verify_dataset(folder, decode=False, workers=2) == verify_dataset(folder, decode=False, workers=1) != []


@pytest.mark.slow
def test_a_running_ray_finds_the_same(folder, local_ray):
    change(folder, FIRST, overwrite(900, 1))
    found = verify_dataset(folder, decode=False, spread=on_ray)
    assert found == verify_dataset(folder, decode=False)
    assert any("its sha256 is" in problem for problem in found)


def test_processes_are_started_for_much_work_only():
    shard = ShardRow("00000-000.tar", 10**9, "", 1)
    assert worth([(ShardRow("00000-000.tar", 10**8, "", 1), [])] * 4, decode=False) == 1
    assert worth([(shard, [])], decode=True) == worth([(shard, [])] * 10, decode=False) == os.cpu_count()


def test_samples_and_people_that_were_taken_down(clean, folder):
    first = clean[1][0]
    url = "https://a.example/1.jpg"
    assert first.metadata["sha256"] == "0" * 64
    write_tombstones(folder, NO_TOMBSTONES.with_items([("identity", first.identity), ("url", url)], "a" * 32, 2))
    problems = verify_dataset(folder)
    theirs = [s.key for s in clean[1] if s.identity == first.identity]
    assert [p for p in problems if "is still here" in p] == [
        f"{FIRST}: {key}: was taken down, and is still here" for key in theirs
    ]
    assert f"{first.identity} was taken down, and is still in the index" in problems
    assert "tombstones.json: version 2, the index says 1" in problems


def test_a_ledger_that_says_otherwise(clean, folder):
    index = read_index(folder)
    rows = [row_of(Photo(r.key, r.identity, r.key, "", 1), 0, "kept", None) for r in index.rows()]
    save_ledger(folder, rows)
    assert verify_dataset(folder) == []
    save_ledger(folder, rows[1:])
    assert verify_dataset(folder) == [f"ledger.parquet: {rows[0].key} is in the index and not kept here"]
    save_ledger(folder, [*rows, replace(rows[0], key="f" * 32), replace(rows[1], status="lost")])
    problems = verify_dataset(folder)
    assert f"ledger.parquet: {'f' * 32} is kept here and not in the index" in problems
    assert any("a key is there twice" in problem for problem in problems)
    assert any("status 'lost' is none of" in problem for problem in problems)
    folder.write("ledger.parquet", b"PAR1 and no more")
    assert any("cannot be read" in problem for problem in verify_dataset(folder))


def test_cached_features_that_are_not_of_these_shards(folder):
    base = read_index(folder)
    made_from = MadeFrom("latents", "test", "0" * 64, "float32")
    tars = FeatureTars(folder.url, made_from, base)
    tars.begin()
    with Dataset(folder.url) as dataset:
        for number in sorted(tars.pending):
            with tars.write(number) as tar:
                for position in base.positions_in(number):
                    sample = dataset.sample(base.keys[position].decode())
                    tar.add(sample, {"latents": np.zeros(3, np.float32)})
            tars.done(number)
    tars.finish()
    assert verify_dataset(folder) == []
    name = f"features/latents/{base.shards[0].file}"
    content = folder.read(name)
    change(folder, name, overwrite(len(content) - 1100, 1))
    assert [p.partition(" is ")[0] for p in verify_dataset(folder)] == [f"{name}: its sha256"]
    change(folder, name, shorten)
    assert any(p.startswith(f"{name}: does not end") for p in verify_dataset(folder))
    folder.remove(name)
    assert verify_dataset(folder) == [f"{name}: is missing"]
    made = json.loads(folder.read("features/latents/made_from.json"))
    made["shards"][base.shards[0].file] = "0" * 64
    folder.write("features/latents/made_from.json", json.dumps(made).encode())
    assert verify_dataset(folder) == ["features/latents: not made from the shards as they are now"]
    folder.remove("features/latents/index.json")
    assert verify_dataset(folder) == [], "an unfinished feature is no fault"


def test_the_command(clean, folder, capsys):
    assert main(["verify", clean[0].url]) == 0
    assert "all promises hold" in capsys.readouterr().out
    change(folder, FIRST, overwrite(900, 1))
    assert main(["verify", folder.url, "--decode"]) == 1
    assert "its sha256 is" in capsys.readouterr().out
    with pytest.raises(InputError, match="--processes: 0: at least 1"):
        main(["verify", folder.url, "--processes", "0"])
