"""index.json: the same bytes for the same rows, one line for whatever is wrong, contradictions are refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from crawl.errors import InputError
from crawl.output import Output
from shards.format.index import INDEX, IndexRow, ShardRow, read_index, write_index


def test_what_is_written_is_read(tmp_path, make_bucket, write):
    output = Output(str(tmp_path))
    shards, rows = [], []
    for bucket in (1, 0):
        new_shards, new_rows = write(output, bucket, make_bucket([3, 4, 1], bucket), 15_000)
        shards, rows = new_shards + shards, new_rows + rows
    write_index(output, 2, shards, rows)
    index = read_index(output)
    assert (index.buckets, list(index.shards), list(index.rows())) == (2, shards, rows)
    assert len(index) == 16
    for position, row in enumerate(rows):
        assert index.position(row.key) == position
        assert position in index.identities[row.identity]
    assert [p for n in range(len(shards)) for p in index.positions_in(n)] == list(range(16))


def test_same_rows_in_any_order_give_the_same_bytes(tmp_path, make_bucket, write):
    output = Output(str(tmp_path))
    shards, rows = write(output, 0, make_bucket([3, 4, 1, 2]), 15_000)
    write_index(output, 2, shards, rows)
    first = output.read(INDEX)
    for seed in range(5):
        random.Random(seed).shuffle(shards)
        random.Random(seed).shuffle(rows)
        write_index(output, 2, iter(shards), iter(rows))
        assert output.read(INDEX) == first
    lines = first.decode().splitlines()
    assert sum(line.startswith('{"file":') for line in lines) == len(shards)
    identities = [line[1:17] for line in lines if '":[[' in line]
    assert identities == sorted({row.identity for row in rows})


SHARD = {"file": "00001-000.tar", "bytes": 5120, "sha256": "a" * 64, "samples": 2}


@pytest.mark.parametrize(("row_has", "json_has"), [((), {}), (("b" * 32,), {"xxh3_128": "b" * 32})])
def test_layout_is_the_documented_one(tmp_path, row_has, json_has):
    output = Output(str(tmp_path))
    rows = [IndexRow(f"{n:032x}", "00112233445566aa", "00001-000.tar", 512 * 4 * n, 512 * 4) for n in range(2)]
    shard = ShardRow("00001-000.tar", 512 * 8 + 1024, "a" * 64, 2, *row_has)
    write_index(output, 3, [shard], rows)
    assert json.loads(output.read(INDEX)) == {
        "format": 1,
        "buckets": 3,
        "shards": [{**SHARD, **json_has}],
        "identities": {"00112233445566aa": [["0" * 32, 0, 0, 2048], ["0" * 31 + "1", 0, 2048, 2048]]},
    }
    assert read_index(output).shards == (shard,)


def test_fields_of_later_versions_do_not_matter(dataset_folder):
    output, samples = dataset_folder
    document = json.loads(output.read(INDEX))
    for holder in (document, *document["shards"]):
        holder["blake3"] = "later"
    output.write(INDEX, json.dumps(document).encode())
    assert len(read_index(output)) == len(samples)


def test_two_datasets_differ_by_their_sha256_alone(dataset_folder):
    output, _ = dataset_folder
    index = read_index(output)
    older = [replace(shard, xxh3_128=None) for shard in index.shards]
    write_index(output, index.buckets, older, index.rows())
    assert read_index(output).digest == index.digest, "what a saved iteration is recognised by"


def test_dataset_without_samples(tmp_path):
    output = Output(str(tmp_path))
    write_index(output, 4, [], [])
    index = read_index(output)
    assert (len(index), index.shards, dict(index.identities), list(index.rows())) == (0, (), {}, [])
    with pytest.raises(KeyError):
        index.position("0" * 32)


def test_shards_of_a_long_bucket_are_in_order_of_number(tmp_path):
    shards = [ShardRow(f"00000-{n}.tar", 512 * 4 + 1024, "a" * 64, 1) for n in ("1000", "1001", "999")]
    rows = [IndexRow(f"{n:032x}", f"{n:016x}", s.file, 0, 512 * 4) for n, s in enumerate(shards)]
    write_index(Output(str(tmp_path)), 1, shards, rows)
    assert [s.file for s in read_index(Output(str(tmp_path))).shards] == [f"00000-{n}.tar" for n in (999, 1000, 1001)]


@pytest.mark.parametrize("key", ["", "0" * 31, "f" * 32, "0" * 33, "ü" * 32])
def test_unknown_key(dataset_folder, key):
    with pytest.raises(KeyError):
        read_index(dataset_folder[0]).position(key)


def one_line(output: Output) -> str:
    with pytest.raises(InputError) as caught:
        read_index(output)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing(tmp_path):
    assert one_line(Output(str(tmp_path))) == f"{tmp_path}/shards/index.json: not found: no finished dataset there"
    assert "not found" in one_line(Output(str(tmp_path / "nowhere")))


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5, [1]])
def test_another_format_names_the_file_and_both_versions(dataset_folder, version):
    output, _ = dataset_folder
    output.write(INDEX, json.dumps({**json.loads(output.read(INDEX)), "format": version}).encode())
    expected = f"{output.path(INDEX)}: format {version!r}, this version of Personae reads format 1"
    assert one_line(output) == expected


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"format":1', b"null\x00", b"1" * 5000])
def test_broken_json(dataset_folder, content):
    output, _ = dataset_folder
    output.write(INDEX, content)
    assert one_line(output).startswith(f"{output.path(INDEX)}: not valid JSON: ")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"3", b"null", b'"format"'])
def test_json_that_is_no_index(dataset_folder, content):
    output, _ = dataset_folder
    output.write(INDEX, content)
    assert one_line(output) == f"{output.path(INDEX)}: not an index of shards"


def places(document, which=0):
    """The samples of one of the identities that have several."""
    return [of_one for of_one in document["identities"].values() if len(of_one) > 1][which]


def move(document, by):
    places(document)[-1][2] += by


def swap_owner(document):
    """Two identities exchange a sample each: neither is adjacent any more."""
    one, other = places(document, 0), places(document, 1)
    one[0], other[-1] = other[-1], one[0]


TAMPERED = {
    "a part is missing": (lambda d: d.pop("shards"), "'shards' is missing"),
    "a shard's part is missing": (lambda d: d["shards"][0].pop("sha256"), "'sha256' is missing"),
    "shards is a number": (lambda d: d.update(shards=3), "not iterable"),
    "identities is a list": (lambda d: d.update(identities=[["a"]]), ""),
    "no buckets": (lambda d: d.update(buckets=0), "buckets is 0"),
    "buckets as text": (lambda d: d.update(buckets="2"), "buckets is '2'"),
    "fewer buckets than shards need": (lambda d: d.update(buckets=1), "outside the 1 buckets"),
    "a path as a shard's name": (lambda d: d["shards"][0].update(file="../x.tar"), "'../x.tar' is no shard's name"),
    "an absolute path": (lambda d: d["shards"][0].update(file="/etc/passwd"), "is no shard's name"),
    "a name in two spellings": (lambda d: d["shards"][0].update(file="00000-0000.tar"), "is no shard's name"),
    "a shard twice": (lambda d: d["shards"].insert(0, d["shards"][0]), "twice or out of order"),
    "no hash": (lambda d: d["shards"][0].update(sha256="abc"), "is no sha256"),
    "a hash as number": (lambda d: d["shards"][0].update(sha256=7), ""),
    "no checksum": (lambda d: d["shards"][0].update(xxh3_128=""), "is no xxh3_128"),
    "a checksum too long": (lambda d: d["shards"][0].update(xxh3_128="a" * 64), "is no xxh3_128"),
    "a checksum of many lines": (lambda d: d["shards"][0].update(xxh3_128="a" * 31 + "\n"), "is no xxh3_128"),
    "a checksum as list": (lambda d: d["shards"][0].update(xxh3_128=["a"] * 32), ""),
    "bytes as text": (lambda d: d["shards"][0].update(bytes="9"), "sizes are no integers"),
    "more samples promised": (lambda d: d["shards"][0].update(samples=99), "should have 99 samples"),
    "a shard without samples": (lambda d: d["shards"][0].update(samples=0), "should have 0 samples"),
    "a longer shard": (lambda d: d["shards"][0].update(bytes=d["shards"][0]["bytes"] + 512), "does not end where"),
    "a sample left out": (lambda d: places(d).pop(), "are listed"),
    "an empty identity": (lambda d: d["identities"].update({"0" * 16: []}), "an identity has no samples"),
    "a short row": (lambda d: places(d)[0].pop(), "place is [key, shard, offset, bytes]"),
    "an offset as text": (lambda d: places(d)[0].__setitem__(2, "0"), "must be integers"),
    "an offset as fraction": (lambda d: places(d)[0].__setitem__(2, 0.5), "must be integers"),
    "an endless offset": (lambda d: places(d)[0].__setitem__(2, 10**30), ""),
    "null for a size": (lambda d: places(d)[0].__setitem__(3, None), "must be integers"),
    "a negative shard": (lambda d: places(d)[0].__setitem__(1, -1), "out of range"),
    "a shard too many": (lambda d: places(d)[0].__setitem__(1, 1000), "out of range"),
    "a gap": (lambda d: move(d, 512), "overlap or leave a gap"),
    "an overlap": (lambda d: move(d, -512), "overlap or leave a gap"),
    "a size of none": (lambda d: places(d)[0].__setitem__(3, 0), "impossible size"),
    "an odd size": (lambda d: places(d)[0].__setitem__(3, 513), "impossible size"),
    "a key twice": (lambda d: places(d)[0].__setitem__(0, places(d)[1][0]), "a key is there twice"),
    "a key that leaves the folder": (
        lambda d: places(d)[0].__setitem__(0, "../../x"),
        "'../../x' is no sample's",
    ),
    "a key as number": (lambda d: places(d)[0].__setitem__(0, 7), ""),
    "an identity by name": (
        lambda d: d["identities"].update(Ann=d["identities"].popitem()[1]),
        "'Ann' is no identity's",
    ),
    "not adjacent": (swap_owner, "not adjacent"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_an_index_that_contradicts_itself_is_refused(dataset_folder, what):
    output, _ = dataset_folder
    tamper, expected = TAMPERED[what]
    document = json.loads(output.read(INDEX))
    tamper(document)
    output.write(INDEX, json.dumps(document).encode())
    said = one_line(output)
    assert said.startswith(f"{output.path(INDEX)}: broken: ")
    assert expected in said
