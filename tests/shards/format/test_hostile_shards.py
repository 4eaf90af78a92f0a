"""Damaged and hostile tars: a named error each time, never fewer samples, nothing executed, nothing written."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import random
import re
import tarfile

import numpy as np
import pytest
import xxhash

from crawl.output import Output
from shards.format.index import INDEX, IndexRow, ShardRow, write_index
from shards.format.tar import ShardError
from shards.read import Dataset
from shards.verify.dataset import verify_dataset, verify_tar

TAR = "shards/00000-000.tar"


@pytest.fixture(scope="module")
def intact(tmp_path_factory, write_dataset):
    """(the tar's bytes, index.json, samples) of a dataset of one tar."""
    output, samples = write_dataset(tmp_path_factory.mktemp("intact"), [[2, 3], []], 10**9)
    return output.read(TAR), output.read(INDEX), samples


@pytest.fixture
def damaged(tmp_path, intact):
    """Put other bytes in the place of the tar; returns the dataset folder."""

    def put(content):
        output = Output(str(tmp_path))
        output.write(INDEX, intact[1])
        output.write(TAR, content)
        return output

    return put


def assert_refused(output, reason="", verify="first"):
    """Every way of reading says the same, and nothing is given before it is said."""
    dataset = Dataset(output.url, verify)
    key, identity = dataset.index.keys[0].decode(), dataset.identities[0]
    pattern = f"^{re.escape(output.path(TAR))}: .*{reason}"
    for read in (
        lambda: next(dataset.stream()),
        lambda: next(dataset.groups(shuffle_seed=1)),
        lambda: dataset.sample(key),
        lambda: dataset.samples_of(identity),
    ):
        with pytest.raises(ShardError, match=pattern) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ValueError)
    stream = Dataset(output.url, verify).stream(on_bad_shard="skip")
    assert len(list(stream)) + sum(skipped.samples for skipped in stream.skipped) == len(dataset)


def cuts(num_bytes):
    return [*range(0, num_bytes, 512), *random.Random(0).sample(range(num_bytes), 50)]


def test_cut_anywhere(damaged, intact):
    content, _, samples = intact
    assert Dataset(damaged(content).url).sample(samples[0].key) == samples[0]
    for at in cuts(len(content)):
        output = damaged(content[:at])
        assert_refused(output, "the index says")
        assert_refused(output, "the index says", verify="never")


def test_cut_anywhere_is_found_without_an_index(tmp_path, intact):
    content, path = intact[0], tmp_path / "some.tar"
    path.write_bytes(content)
    assert verify_tar(path) == []
    for at in cuts(len(content)):
        path.write_bytes(content[:at])
        problems = verify_tar(path)
        assert problems, f"cut at byte {at}"
        assert all(problem.startswith(f"{path}: ") for problem in problems)


def test_any_flipped_bit(damaged, intact):
    content, _, _ = intact
    for bit in random.Random(1).sample(range(8 * len(content)), 100):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert_refused(damaged(bytes(flipped)), "is damaged: its xxh3_128 is")
        assert_refused(damaged(bytes(flipped)), "is damaged: its sha256 is", verify="sha256")


def test_any_flipped_bit_of_a_header_without_verification(damaged, intact):
    content, _, _ = intact
    for bit in random.Random(2).sample(range(8 * 512), 60):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert_refused(damaged(bytes(flipped)), verify="never")


def test_added_to_or_exchanged(damaged, intact):
    content, _, samples = intact
    assert_refused(damaged(content + bytes(512)), "the index says")
    assert_refused(damaged(b""), "has 0 bytes")
    assert_refused(damaged(bytes(len(content))), "is damaged")
    rows = list(Dataset(damaged(content).url).index.rows())
    swapped = bytearray(content)
    one, other = (next(row for row in rows if row.key == sample.key) for sample in samples[:2])
    assert one.num_bytes == other.num_bytes
    for here, there in ((one, other), (other, one)):
        swapped[here.offset : here.offset + here.num_bytes] = content[there.offset : there.offset + there.num_bytes]
    assert_refused(damaged(bytes(swapped)), "where the index has", verify="never")


# From here on the attacker also writes the index: hash, sizes and count agree with the hostile tar.

KEY = "0" * 31 + "1"
IDENTITY = "00112233445566aa"
DOCUMENT = {"key": KEY, "identity": IDENTITY}


def member(suffix, content=b"x", name=None, **fields):
    information = tarfile.TarInfo(name or f"{KEY}.{suffix}")
    information.size = len(content)
    for field, value in fields.items():
        setattr(information, field, value)
    return information, content


def document(**changes):
    return member("json", json.dumps({**DOCUMENT, **changes}).encode())


def tar_of(*members, format=tarfile.USTAR_FORMAT):
    content = b""
    for information, data in members:
        content += information.tobuf(format) + data + bytes(-len(data) % 512)
    return content + bytes(1024)


GOOD = [member("face.jpg"), member("jpg"), document()]


def with_member(*extra):
    return tar_of(*sorted([*GOOD, *extra], key=lambda m: m[0].name))


class Canary:
    """Unpickling it makes a file."""

    def __reduce__(self):
        return open, (os.environ["CANARY"], "w")


def array(values, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=allow_pickle)
    return buffer.getvalue()


def array_header(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def pickled_array():
    return array(np.array([Canary()], dtype=object), allow_pickle=True)


def claims(num_bytes):
    """A header that claims a size which is not there."""
    return [member("face.jpg"), member("jpg", b"", size=num_bytes), document()]


def gnu_size():
    """GNU's base-256 spelling of 10 GB, which ustar can't say."""
    return tarfile.TarInfo.tobuf(member("jpg", size=10 * 2**30)[0], tarfile.GNU_FORMAT)


HOSTILE = {
    "no json": (lambda: tar_of(*GOOD[:2]), "has no json"),
    "no face": (lambda: tar_of(*GOOD[1:]), "has no face.jpg"),
    "no picture": (lambda: tar_of(GOOD[0], GOOD[2]), "has no jpg"),
    "only a feature": (lambda: tar_of(member("clip.npy")), "has no face.jpg and no jpg and no json"),
    "a member twice": (lambda: tar_of(GOOD[0], GOOD[1], GOOD[1], GOOD[2]), "is there twice"),
    "a sample twice": (lambda: tar_of(*GOOD, *GOOD), "is out of order"),
    "out of order": (lambda: tar_of(GOOD[1], GOOD[0], GOOD[2]), "is out of order"),
    "another sample in between": (
        lambda: tar_of(GOOD[0], member("", name=f"{'0' * 31}2.jpg"), *GOOD[1:]),
        "among the members of|has no jpg",
    ),
    "traversal": (lambda: with_member(member("", name="../../evil.jpg")), "'../../evil.jpg' is not allowed"),
    "traversal behind a key": (lambda: with_member(member("x/../../evil.npy")), "is not allowed"),
    "an absolute name": (lambda: with_member(member("", name="/etc/evil.jpg")), "'/etc/evil.jpg' is not allowed"),
    "a folder in the name": (lambda: with_member(member("", name=f"a/{KEY}.jpg")), "is not allowed"),
    "a long folder in the prefix": (
        lambda: with_member(member("", name=f"{'a' * 99}/{KEY}.jpg")),
        "is not allowed",
    ),
    "a pickle": (lambda: with_member(member("pkl", pickle.dumps(Canary()))), "pkl' is not allowed"),
    "a pickle by webdataset's name": (
        lambda: with_member(member("pyd", pickle.dumps(Canary()))),
        "pyd' is not allowed",
    ),
    "a torch file": (lambda: with_member(member("pth", pickle.dumps(Canary()))), "pth' is not allowed"),
    "something packed": (lambda: with_member(member("json.gz", gzip.compress(bytes(10**6)))), "gz' is not allowed"),
    "a suffix in capitals": (lambda: with_member(member("JPG")), "JPG' is not allowed"),
    "a key in capitals": (lambda: with_member(member("", name=f"{'A' * 32}.jpg")), "is not allowed"),
    "a short key": (lambda: with_member(member("", name="abc.jpg")), "'abc.jpg' is not allowed"),
    "a line break in a name": (lambda: with_member(member("", name=f"{KEY}.jpg\n")), "is not allowed"),
    "no name": (lambda: with_member(member("", name=".")), "is not allowed"),
    "a symbolic link": (
        lambda: with_member(member("a.npy", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "is a symbolic link, not a regular file",
    ),
    "a hard link": (
        lambda: with_member(member("a.npy", b"", type=tarfile.LNKTYPE, linkname=f"{KEY}.jpg")),
        "is a hard link, not a regular file",
    ),
    "a folder": (lambda: with_member(member("a.npy", b"", type=tarfile.DIRTYPE)), "is a folder"),
    "a device": (lambda: with_member(member("a.npy", b"", type=tarfile.CHRTYPE)), "is a device"),
    "a pipe": (lambda: with_member(member("a.npy", b"", type=tarfile.FIFOTYPE)), "is a pipe"),
    "a sparse file": (lambda: with_member(member("a.npy", b"", type=tarfile.GNUTYPE_SPARSE)), "is of tar type 'S'"),
    "a pax header": (lambda: with_member(member("a.npy", b"11 path=..\n", type=tarfile.XHDTYPE)), "is of tar type 'x'"),
    "a GNU long name": (lambda: with_member(member("a.npy", b"../x", type=tarfile.GNUTYPE_LONGNAME)), "tar type 'L'"),
    "an executable": (lambda: with_member(member("a.npy", mode=0o755)), "has a mode, owner or time"),
    "a user": (lambda: with_member(member("a.npy", uname="root")), "has a mode, owner or time"),
    "a time": (lambda: with_member(member("a.npy", mtime=1)), "has a mode, owner or time"),
    "something behind a link name": (
        lambda: with_member(member("a.npy", linkname="/etc")),
        "has a mode, owner or time",
    ),
    "10 GB claimed": (lambda: tar_of(*claims(8 * 2**30 - 1)), "claims more than 67,108,864 bytes"),
    "10 GB claimed in GNU's way": (lambda: gnu_size() + tar_of(*GOOD), "more than|damaged|mode, owner"),
    "more claimed than there is": (lambda: tar_of(*claims(100_000)), "torn|does not end"),
    "more claimed than there is, in whole blocks": (lambda: tar_of(*claims(102_400)), "torn|does not end"),
    "a whole block too few": (lambda: tar_of(*GOOD[:2], member("json", b"", size=1024)), "torn|does not end"),
    "something behind a member": (lambda: tar_of(*GOOD).replace(b"x" + bytes(511), b"xy" + bytes(510), 1), "torn"),
    "something before the end": (
        lambda: tar_of(*GOOD)[:-1024] + b"PK" + bytes(1022),
        "damaged header|does not end|torn",
    ),
    "one zero block": (lambda: tar_of(*GOOD)[:-512], "does not end|ends"),
    "zeros in the middle": (lambda: tar_of(GOOD[0])[:-512] + tar_of(*GOOD[1:]), "ends before its last sample"),
    "no JSON": (lambda: tar_of(*GOOD[:2], member("json", b"{'a'")), "is not JSON"),
    "NaN": (lambda: tar_of(*GOOD[:2], document(face_score=float("nan"))), "is not JSON: NaN"),
    "JSON in another code": (lambda: tar_of(*GOOD[:2], member("json", b"\xff\xfe{}")), "is not JSON"),
    "endless nesting": (lambda: tar_of(*GOOD[:2], member("json", b"[" * 200_000)), "is not JSON"),
    "a JSON list": (lambda: tar_of(*GOOD[:2], member("json", b"[]")), "is not of this key"),
    "no identity": (lambda: tar_of(*GOOD[:2], document(identity=None)), "names no identity"),
    "an identity of many lines": (lambda: tar_of(*GOOD[:2], document(identity="a\n" * 10**6)), "names no identity"),
    "another identity": (lambda: tar_of(*GOOD[:2], document(identity="f" * 16)), "where the index has|"),
    "another key": (lambda: tar_of(*GOOD[:2], document(key="f" * 32)), "is not of this key"),
    "a key of many lines": (lambda: tar_of(*GOOD[:2], document(key="f\n" * 10**6)), "is not of this key"),
    "a feature that is no array": (lambda: with_member(member("a.npy", b"nothing")), "is no plain array of numbers"),
    "a feature that is a pickle": (
        lambda: with_member(member("a.npy", pickle.dumps(Canary()))),
        "is no plain array of numbers",
    ),
    "an array of objects": (lambda: with_member(member("a.npy", pickled_array())), "is no plain array of numbers"),
    "half an array": (lambda: with_member(member("a.npy", b"\x93NUMPY\x01\x00\x02")), "is no plain array of numbers"),
    "an array that claims more than it has": (
        lambda: with_member(member("a.npy", array_header("(9,)") + bytes(64))),
        "has 64 bytes for an array of 72",
    ),
    "an array that claims a petabyte": (
        lambda: with_member(member("a.npy", array_header("(1000000000, 125000)") + bytes(64))),
        "has 64 bytes for an array of 1,000,000,000,000,000",
    ),
    "something behind an array": (
        lambda: with_member(member("a.npy", array_header("(8,)") + bytes(64) + b"PK")),
        "has 66 bytes for an array of 64",
    ),
    "code for a shape": (
        lambda: with_member(member("a.npy", array_header("(8*1,)") + bytes(64))),
        "is no plain array of numbers",
    ),
    "a shape of many digits": (
        lambda: with_member(member("a.npy", array_header(f"({'1' * 60}x)") + bytes(64))),
        "is no plain array of numbers",
    ),
    "text in an array": (lambda: with_member(member("a.npy", array(np.array(["a"])))), "is no plain array of numbers"),
    "a structured array": (
        lambda: with_member(member("a.npy", array(np.zeros(2, [("a", "<f4")])))),
        "is no plain array of numbers",
    ),
    "an array in another version": (
        lambda: with_member(member("a.npy", array(np.zeros(8)).replace(b"NUMPY\x01", b"NUMPY\x02"))),
        "is no plain array of numbers",
    ),
    "a zip of arrays": (lambda: with_member(member("a.npy", b"PK\x03\x04")), "is no plain array of numbers"),
}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    path = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(path))
    yield path
    assert not path.exists(), "something was executed"


def hostile_dataset(folder, content):
    """A dataset whose index says exactly what the tar is: one sample from 0 to the end blocks."""
    output = Output(str(folder))
    output.write(TAR, content)
    digests = hashlib.sha256(content).hexdigest(), 1, xxhash.xxh3_128(content).hexdigest()
    row = IndexRow(KEY, IDENTITY, "00000-000.tar", 0, len(content) - 1024)
    write_index(output, 1, [ShardRow("00000-000.tar", len(content), *digests)], [row])
    return output


def test_the_harmless_one_is_read(tmp_path, canary):
    sample = Dataset(hostile_dataset(tmp_path, tar_of(*GOOD)).url).sample(KEY)
    assert (sample.image_jpeg, sample.face_jpeg, sample.metadata) == (b"x", b"x", DOCUMENT)


@pytest.mark.parametrize(
    "kind",
    [
        "bool",
        *(f"{k}{bits}" for bits in (8, 16, 32, 64) for k in ("int", "uint", "float") if (k, bits) != ("float", 8)),
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (1, 4, 64, 2)])
def test_every_plain_array_of_numbers_is_read(tmp_path, kind, shape):
    for values in (np.zeros(shape, kind), np.asfortranarray(np.ones(shape, kind))):
        content = tar_of(*sorted([*GOOD, member("a.npy", array(values))], key=lambda m: m[0].name))
        feature = Dataset(hostile_dataset(tmp_path, content).url).sample(KEY).features["a"]
        assert np.array_equal(np.load(io.BytesIO(feature), allow_pickle=False), values)


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile(tmp_path, canary, what):
    make, reason = HOSTILE[what]
    content = make()
    output = hostile_dataset(tmp_path / "dataset", content)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(ShardError, match=reason or None) as caught:
        next(Dataset(output.url, "never").stream())
    assert "\n" not in str(caught.value)
    assert_refused(output)
    problems = verify_tar(output.path(TAR))
    if what == "another identity":
        assert verify_dataset(output)
    else:
        assert re.search(reason, problems[0])
        assert all(len(problem) < 400 and "\n" not in problem for problem in problems)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
