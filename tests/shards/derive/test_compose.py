"""Datasets merged, split and sampled: every outcome is a valid dataset, and every photo is accounted for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil

import numpy as np
import pytest

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Photo, bucket_of, identity_key, photo_key
from crawl.tables import Entry, Tables
from crawl.tombstones import Tombstones, read_tombstones, write_tombstones
from filter.decide import IDENTITIES as CENTRES
from filter.verify import IdentityFinding
from shards.__main__ import main
from shards.beside.identities import Identity, read_identities, recounted, save_identities
from shards.beside.ledger import funnel, read_ledger, row_of, save_ledger
from shards.beside.resolved import RESOLVED, write_resolved
from shards.card.write import write_card
from shards.config import BuildRun
from shards.derive.merge import merge
from shards.derive.split import sample, split
from shards.format.index import INDEX, read_index, write_index
from shards.format.sample import to_sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from shards.read import Dataset
from shards.verify.dataset import verify_dataset

BUCKETS = 2


@pytest.fixture
def make(make_row, tmp_path):
    """(folder, {name: [(number of the picture, sha256 or None, licence)]}, …) → a finished dataset."""

    def made(folder, people, centres=None, same_as=None, size_px=48):
        output = Output(str(tmp_path / folder))
        settings = {"output": output.url, "crawl": {"root": "photos"}, "shards": {"buckets": BUCKETS}}
        run = BuildRun.model_validate({**settings, "filter": {"size_px": max(size_px, 64), "near_duplicate_bits": 4}})
        samples, rows, persons = [], [], []
        for name, photos in people.items():
            identity = identity_key(name)
            bucket = bucket_of(identity, BUCKETS)
            for number, sha256, licence in photos:
                sha256 = sha256 or hashlib.sha256(f"{folder} {name} {number}".encode()).hexdigest()
                source = f"{folder}/{name}/{number}.jpg"
                url = f"https://{folder}.example/{name}/{number}.jpg"
                photo = Photo(photo_key(identity, source, sha256), identity, source, sha256, 1000)
                photo = dataclasses.replace(photo, licence=licence, image_url=url)
                row = make_row(identity, number)
                portrait = dataclasses.replace(row.portrait, key=photo.key, photo=photo)
                samples.append(to_sample(dataclasses.replace(row, portrait=portrait)))
                rows.append(row_of(photo, bucket, "kept", None))
            persons.append(Identity(identity, name, "test", "folder", bucket, 0, 0, (), 0, False, None, None))
        shards, index = [], []
        for bucket in range(BUCKETS):
            here = sorted((s.identity, s.key) for s in samples if bucket_of(s.identity, BUCKETS) == bucket)
            by_key = {s.key: s for s in samples}
            ordered = [by_key[key] for _, key in here]
            sizes = [(s.identity, sample_size(s)) for s in ordered]
            new = write_bucket(output, bucket, ordered, sizes, 20_000)
            shards, index = shards + new[0], index + new[1]
        write_index(output, BUCKETS, shards, index)
        save_ledger(output, rows)
        persons = recounted(persons, read_ledger(output))
        for one, other in (same_as or {}).items():
            persons = [
                dataclasses.replace(p, same_as=identity_key(other), same_as_cosine=0.99) if p.name == one else p
                for p in persons
            ]
        save_identities(output, persons)
        write_resolved(run, output)
        write_card(run, output)
        for bucket in range(BUCKETS if centres else 0):
            entries = [
                Entry(identity_key(name), finding(name, people, centre))
                for name, centre in centres.items()
                if bucket_of(identity_key(name), BUCKETS) == bucket
            ]
            Tables(output).write(CENTRES, bucket, IdentityFinding, entries, "stamp")
        assert verify_dataset(output) == []
        return output

    return made


def finding(name, people, centre):
    centre = np.array([math.cos(centre), math.sin(centre), 0], np.float32)
    count = len(people[name])
    return IdentityFinding(identity_key(name), "cluster", count, count, centre, 0.965, count, None, 0, None, ())


def photos(*numbers, sha256=None, licence="CC0-1.0"):
    return [(number, sha256, licence) for number in numbers]


def ledger(output):
    return {row["key"]: row for row in read_ledger(output).to_pylist()}


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def checked(output):
    assert verify_dataset(output) == []
    funnel(read_ledger(output, ["stage", "reason"]))
    found = len(ledger(output))
    counts = [sum(r["status"] == s for r in ledger(output).values()) for s in ("kept", "rejected", "failed", "removed")]
    assert found == sum(counts)
    assert output.read("README.md").startswith(b"---\n")
    with Dataset(output.url) as dataset:
        return {key: [s.key for s in samples] for key, samples in dataset.groups()}


def test_people_are_matched_and_photos_counted_once(make, tmp_path, capsys):
    a = make("a", {"Ada": [*photos(1, 2), (3, "3" * 64, "CC0-1.0")], "Bob": photos(4)})
    b = make(
        "b",
        {"Ada": [*photos(5), (33, "3" * 64, "CC-BY-NC-4.0"), *photos(2, licence="CC-BY-SA-4.0")], "Cid": photos(6, 7)},
    )
    assert main(["merge", a.url, b.url, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    output = Output(str(tmp_path / "out"))
    groups = checked(output)
    assert {i: len(keys) for i, keys in groups.items()} == {
        identity_key("Ada"): 4,
        identity_key("Bob"): 1,
        identity_key("Cid"): 2,
    }
    copies = [row for row in ledger(output).values() if row["reason"] == "duplicate"]
    assert len(copies) == 2, "one by its bytes, one by its looks"
    kept = {row["duplicate_of"]: ledger(output)[row["duplicate_of"]] for row in copies}
    with Dataset(output.url) as dataset:
        for key, row in kept.items():
            assert row["licence"] in ("CC-BY-NC-4.0", "CC-BY-SA-4.0"), "the strictest of the copies"
            assert dataset.sample(key).metadata["licence"] == row["licence"]
    assert {p.name: p.kept for p in read_identities(output)} == {"Ada": 4, "Bob": 1, "Cid": 2}
    assert "names were not compared" in said
    assert "2 photos: duplicate" in said
    assert "7 samples of 3 people" in said
    history = json.loads(output.read("made_from.json"))
    assert history["command"] == "merge"
    assert str(tmp_path) not in json.dumps(history)


def test_the_same_merge_gives_the_same_bytes_and_nothing_is_written_over(make, tmp_path):
    a, b = make("a", {"Ada": photos(1, 2)}), make("b", {"Bob": photos(3)})
    merge([a.url, b.url], str(tmp_path / "one"))
    merge([a.url, b.url], str(tmp_path / "two"))
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == [RESOLVED], "which names the folder"
    with pytest.raises(InputError, match="is there already"):
        merge([a.url, b.url], str(tmp_path / "one"))
    assert files(tmp_path / "one") == one
    os.remove(tmp_path / "two" / INDEX)
    (tmp_path / "two" / ".unfinished").touch()  # as a killed merge leaves it
    merge([a.url, b.url], str(tmp_path / "two"))
    assert files(tmp_path / "two") == two


def test_what_one_has_taken_down_is_out_of_the_other(make, tmp_path):
    a, b = make("a", {"Ada": photos(1, 2)}), make("b", {"Ada": photos(3), "Bob": photos(4, 5)})
    items = [("identity", identity_key("Ada")), ("url", "https://b.example/Bob/4.jpg")]
    write_tombstones(b, Tombstones().with_items([], "b" * 32, 1))
    write_tombstones(a, Tombstones().with_items(items, "a" * 32, 3))
    merge([a.url, b.url], str(tmp_path / "out"))
    output = Output(str(tmp_path / "out"))
    assert checked(output).keys() == {identity_key("Bob")}
    removed = [row for row in ledger(output).values() if row["status"] == "removed"]
    assert sorted(row["identity"] for row in removed) == sorted(["", "", "", identity_key("Bob")])
    assert {row["image_url"] for row in removed} == {None}
    assert [p.name for p in read_identities(output)] == ["Bob"]
    assert read_tombstones(output).person(identity_key("Ada"))
    assert read_index(output).version == read_tombstones(output).version == 3


def test_a_second_name_is_set_aside_where_embeddings_are_at_hand(make, tmp_path):
    a = make("a", {"Ada": photos(1, 2, 3), "Bob": photos(4)}, centres={"Ada": 0.0, "Bob": 1.5})
    b = make("b", {"Countess": photos(5, 6), "Dan": photos(7)}, centres={"Countess": 0.02, "Dan": 3.0})
    merged = merge([a.url, b.url], str(tmp_path / "out"))
    output = Output(str(tmp_path / "out"))
    assert checked(output).keys() == {identity_key(name) for name in ("Ada", "Bob", "Dan")}
    aside = [row for row in ledger(output).values() if row["reason"] == "same_as_other_name"]
    assert [row["identity"] for row in aside] == [identity_key("Countess")] * 2
    same = {p.name: p.same_as for p in read_identities(output)}
    assert same["Countess"] == identity_key("Ada")
    assert not merged.notes


def test_settings_that_differ_are_named(make, tmp_path):
    a, b = make("a", {"Ada": photos(1)}), make("b", {"Bob": photos(2)}, size_px=128)
    merged = merge([a.url, b.url], str(tmp_path / "out"))
    assert "settings differ: filter.size_px: 64 in dataset 1, 128 in dataset 2" in merged.notes


PEOPLE = {f"Person {n}": [(10 * n + i, None, "CC0-1.0") for i in range(2)] for n in range(10)}


def test_a_split_shares_no_person_under_any_name(make, tmp_path, capsys):
    people = {**PEOPLE, "Twin": photos(200), "Alias": photos(201), "In the same photo": [(202, "f" * 64, None)]}
    people["Person 2"] = [(20, "f" * 64, None)]
    centres = {name: number * 0.45 for number, name in enumerate(people)}
    centres["Twin"] = centres["Person 1"] + 0.05
    source = make("all", people, centres, same_as={"Alias": "Person 0"})
    arguments = ["split", source.url, str(tmp_path / "parts"), "--train", "0.6", "--val", "0.2", "--test", "0.2"]
    assert main(arguments) == 0
    assert "samples of" in capsys.readouterr().out
    sides = {side: checked(Output(str(tmp_path / "parts" / side))) for side in ("train", "val", "test")}
    everybody = [identity for groups in sides.values() for identity in groups]
    assert sorted(everybody) == sorted(map(identity_key, people))
    of = {identity: side for side, groups in sides.items() for identity in groups}
    for one, other in (("Person 0", "Alias"), ("Person 1", "Twin"), ("Person 2", "In the same photo")):
        assert of[identity_key(one)] == of[identity_key(other)]
    assert all(len(groups) >= 2 for groups in sides.values())
    assert len(sides["train"]) >= 6
    again = {**dict.fromkeys(("val", "test"), 0.2), "train": 0.6}
    split(source.url, str(tmp_path / "again"), {side: again[side] for side in ("train", "val", "test")}, 0)
    for name, content in files(tmp_path / "again").items():
        assert name.endswith(RESOLVED) or (tmp_path / "parts" / name).read_bytes() == content
    split(source.url, str(tmp_path / "other"), {"train": 0.6, "val": 0.2, "test": 0.2}, 1)
    assert checked(Output(str(tmp_path / "other" / "val"))).keys() != sides["val"].keys()


def test_wrong_shares_and_too_few_people(make, tmp_path):
    source = make("few", {"Ada": photos(1), "Bob": photos(2)})
    with pytest.raises(InputError, match="shares of 0–1 that add up to 1"):
        split(source.url, str(tmp_path / "x"), {"train": 0.9, "val": 0.1, "test": 0.1}, 0)
    with pytest.raises(InputError, match="too few for 3 sides"):
        split(source.url, str(tmp_path / "x"), {"train": 0.8, "val": 0.1, "test": 0.1}, 0)
    source.remove("ledger.parquet")
    with pytest.raises(InputError, match=r"ledger\.parquet is missing"):
        sample(source.url, str(tmp_path / "x"), 1, 1, 0)
    assert not (tmp_path / "x").exists()


def test_a_sample_is_small_and_always_the_same(make, tmp_path, capsys):
    source = make("all", PEOPLE)
    assert main(["sample", source.url, str(tmp_path / "s"), "--identities", "3", "--photos", "1"]) == 0
    assert "3 samples of 3 people" in capsys.readouterr().out
    groups = checked(Output(str(tmp_path / "s")))
    assert [len(keys) for keys in groups.values()] == [1, 1, 1]
    sample(source.url, str(tmp_path / "t"), 3, 1, 0)
    shutil.copy(tmp_path / "t" / RESOLVED, tmp_path / "s" / RESOLVED)
    assert files(tmp_path / "s") == files(tmp_path / "t")
    with pytest.raises(InputError, match="at least 1"):
        sample(source.url, str(tmp_path / "u"), 0, 1, 0)
