"""Writing shards: where they are cut, that the same samples give the same bytes, and that nothing torn is ever seen."""

from __future__ import annotations

import errno
import hashlib
import itertools
import math
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tracemalloc
from dataclasses import replace

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import shards.format.tar
import shards.format.write
from crawl.output import Output
from shards.format.tar import BLOCK, END, header, pack, sample_size
from shards.format.write import plan_shards, write_bucket

SAMPLE_BYTES = st.integers(1, 40).map(lambda blocks: blocks * BLOCK)
PEOPLE = st.lists(st.lists(SAMPLE_BYTES, min_size=1, max_size=8), max_size=12)


def hashes(output: Output) -> dict[str, str]:
    names = output.names("shards")
    return {name: hashlib.sha256(output.read(f"shards/{name}")).hexdigest() for name in names}


@given(st.text("abcdef0123456789", min_size=32, max_size=32), st.integers(0, 64 * 2**20))
def test_header_is_the_one_tarfile_writes(key, num_bytes):
    information = tarfile.TarInfo(f"{key}.face.jpg")
    information.size = num_bytes
    assert header(information.name, num_bytes) == information.tobuf(tarfile.USTAR_FORMAT)


@given(PEOPLE, st.integers(2, 60).map(lambda blocks: blocks * BLOCK))
def test_plan_keeps_size_and_identities_together(people, max_bytes):
    sizes = [(f"{n:016x}", num_bytes) for n, person in enumerate(people) for num_bytes in person]
    plan = plan_shards(sizes, max_bytes)
    assert len(plan) == len(sizes)
    assert sorted(set(plan)) == list(range(len(set(plan)))), "numbers run without a gap"
    assert plan == sorted(plan)
    for number in set(plan):
        inside = [num_bytes for (_, num_bytes), n in zip(sizes, plan, strict=True) if n == number]
        assert len(inside) == 1 or sum(inside) + len(END) <= max_bytes
    for n, person in enumerate(people):
        its_shards = {number for (identity, _), number in zip(sizes, plan, strict=True) if identity == f"{n:016x}"}
        if sum(person) + len(END) <= max_bytes:
            assert len(its_shards) == 1, "an identity that fits into a shard is never split"


@given(PEOPLE, st.integers(2, 60).map(lambda blocks: blocks * BLOCK))
def test_plan_closes_no_shard_too_early(people, max_bytes):
    sizes = [(f"{n:016x}", num_bytes) for n, person in enumerate(people) for num_bytes in person]
    plan = plan_shards(sizes, max_bytes)
    used = {n: sum(b for (_, b), number in zip(sizes, plan, strict=True) if number == n) for n in set(plan)}
    for before, after in itertools.pairwise(range(len(sizes))):
        if plan[before] != plan[after]:
            following = sizes[after][0]
            identity = [num_bytes for i, num_bytes in sizes if i == following]
            needed = sizes[after][1] if following == sizes[before][0] else sum(identity)
            assert used[plan[before]] + needed + len(END) > max_bytes


def test_tar_holds_the_samples_in_order_with_nothing_that_varies(tmp_path, make_bucket, write):
    samples = make_bucket([3, 2], features={"clip": b"\x93NUMPY", "arcface": b"\x93NUMPY"})
    (shard,), _ = write(Output(str(tmp_path)), 7, samples)
    assert shard.file == "00007-000.tar"
    with tarfile.open(tmp_path / "shards" / shard.file) as tar:
        members = tar.getmembers()
        contents = [(m.name, tar.extractfile(m).read()) for m in members]
    assert contents == [member for sample in samples for member in sample.members()]
    suffixes = ["arcface.npy", "clip.npy", "face.jpg", "jpg", "json"]
    assert [name.partition(".")[2] for name, _ in contents] == suffixes * 5
    assert {(m.type, m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (tarfile.REGTYPE, 0, 0, 0, "", "", 0o644)
    }


def test_rows_say_what_is_there(tmp_path, make_bucket, write):
    samples = make_bucket([3, 2, 6])
    shards, rows = write(Output(str(tmp_path)), 1, samples, max_bytes=3 * sample_size(samples[0]) + 4096)
    assert len(shards) > 2
    for shard in shards:
        content = (tmp_path / "shards" / shard.file).read_bytes()
        assert (shard.num_bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert shard.xxh3_128 == xxhash.xxh3_128(content).hexdigest()
        assert shard.samples == sum(row.shard == shard.file for row in rows)
    for row, sample in zip(rows, samples, strict=True):
        content = (tmp_path / "shards" / row.shard).read_bytes()
        assert (row.key, row.identity) == (sample.key, sample.identity)
        assert content[row.offset : row.offset + row.num_bytes] == pack(sample)


def test_same_samples_give_the_same_bytes(tmp_path, make_bucket, write):
    samples = make_bucket([5, 1, 4])
    one, other = Output(str(tmp_path / "one")), Output(str(tmp_path / "other"))
    first = write(one, 0, samples, 20_000)
    assert write(one, 0, samples, 20_000) == first
    assert write(other, 0, samples, 20_000) == first
    assert hashes(one) == hashes(other)
    assert len(hashes(one)) > 1


def test_a_bucket_that_shrinks_leaves_nothing_of_itself_behind(tmp_path, make_bucket, write):
    output = Output(str(tmp_path))
    write(output, 0, make_bucket([4, 4, 4]), 15_000)
    write(output, 1, make_bucket([4, 4, 4], 1), 15_000)
    (tmp_path / "shards" / "notes.txt").write_text("not ours")
    others = {name: value for name, value in hashes(output).items() if not name.startswith("00000-")}
    assert len(hashes(output)) > len(others) + 2
    (shard,), _ = write(output, 0, make_bucket([1]), 15_000)
    assert hashes(output) == {shard.file: shard.sha256, **others}
    assert write(output, 0, [], 15_000) == ([], [])
    assert hashes(output) == others


def test_samples_out_of_order_or_unlike_their_plan_are_a_fault(tmp_path, make_bucket, write):
    output, samples = Output(str(tmp_path)), make_bucket([2, 2])
    for wrong in ([samples[1], samples[0]], [samples[0], samples[2], samples[1]], [samples[0], samples[0]]):
        with pytest.raises(AssertionError, match="order"):
            write(output, 0, wrong)
    with pytest.raises(AssertionError, match="planned"):
        write_bucket(output, 0, samples, [(s.identity, sample_size(s) + BLOCK) for s in samples], 10**9)
    with pytest.raises(AssertionError, match="contradicts"):
        write(output, 0, [replace(samples[0], metadata=samples[1].metadata)])
    assert output.names("shards") == []


def test_what_no_reader_takes_is_not_written(tmp_path, make_bucket, write, monkeypatch):
    output, (sample,) = Output(str(tmp_path)), make_bucket([1])
    for features in ({"../x": b""}, {"a.b": b""}, {"Clip": b""}, {"": b""}, {"x" * 90: b""}):
        with pytest.raises(ValueError, match="not allowed"):
            write(output, 0, [replace(sample, features=features)])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(output, 0, [replace(sample, metadata={**sample.metadata, "face_score": math.nan})])
    monkeypatch.setattr(shards.format.tar, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(ValueError, match=r"a member may have 100"):
        write(output, 0, [sample])
    assert os.listdir(tmp_path / "shards") == []


def test_memory_holds_one_sample(tmp_path, make_bucket):
    template = make_bucket([40])
    samples = [replace(sample, image_jpeg=b"") for sample in template]
    sizes = [(s.identity, sample_size(s) + 500 * BLOCK) for s in samples]
    large = (replace(s, image_jpeg=os.urandom(500 * BLOCK)) for s in samples)
    tracemalloc.start()
    try:
        write_bucket(Output(str(tmp_path)), 0, large, sizes, 10**9)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 500 * BLOCK, "40 samples of 250 kB went through"


def test_storing_begins_early_and_every_byte_once(tmp_path, make_bucket, write, monkeypatch):
    samples, told = make_bucket([4, 3]), []
    monkeypatch.setattr(shards.format.write, "_WRITE_BACK_BYTES", sample_size(samples[0]) + 1)
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: told.append(arguments[1:3]), raising=False)
    (shard,), rows = write(Output(str(tmp_path)), 0, samples)
    assert [start for start, _ in told] == [0, *(start + length for start, length in told[:-1])]
    assert [start + length for start, length in told] == [row.offset for row in rows[2::2]]
    assert shard.sha256 == hashlib.sha256((tmp_path / "shards" / shard.file).read_bytes()).hexdigest()


@pytest.fixture
def child():
    """Run a script in a child from the current folder with pickled samples on stdin; its stderr is the answer."""

    def run(script, samples, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, input=pickle.dumps(samples), capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stderr.decode()

    return run


# Crashes. The child writes a bucket and kills itself at the n-th of the moments that matter: before each
# sample, each fsync, each rename, each removal.
KILLED_WRITER = """
import itertools, os, pickle, signal, sys
sys.path.insert(0, os.getcwd())
from crawl.output import Output
from shards.format.tar import sample_size
from shards.format.write import write_bucket

samples = pickle.load(sys.stdin.buffer)
sizes = [(s.identity, sample_size(s)) for s in samples]

def moment(number, counter):
    if next(counter) == number:
        os.kill(os.getpid(), signal.SIGKILL)

def write(folder, number):
    counter = itertools.count()
    def then(function):
        def wrapped(*args, **kwargs):
            moment(number, counter)
            return function(*args, **kwargs)
        return wrapped
    os.fsync, os.replace, Output.remove = then(os.fsync), then(os.replace), then(Output.remove)
    def stream():
        for sample in samples:
            moment(number, counter)
            yield sample
    write_bucket(Output(folder), 0, stream(), sizes, int(sys.argv[2]))

for number in itertools.count():
    child = os.fork()
    if not child:
        write(f"{sys.argv[1]}/{number}", number)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        print(number, file=sys.stderr)
        sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_killed_at_any_moment_no_torn_tar_has_a_final_name(tmp_path, make_bucket, write, child):
    samples, before, max_bytes = make_bucket([2, 2]), make_bucket([1, 1, 1, 1, 1, 1]), 13_000
    finished = Output(str(tmp_path / "finished"))
    write(finished, 0, samples, max_bytes)
    earlier = Output(str(tmp_path / "earlier"))
    write(earlier, 0, before, 1)
    assert (len(hashes(finished)), len(hashes(earlier))) == (2, 6)
    most = 20
    for number in range(most):
        write(Output(str(tmp_path / f"killed/{number}")), 0, before, 1)
    moments = int(child(KILLED_WRITER, samples, tmp_path / "killed", max_bytes))
    assert moments == len(samples) + 2 * len(("fsync", "rename", "fsync of the folder")) + 4 < most

    whole, seen = {*hashes(finished).items(), *hashes(earlier).items()}, []
    for number in range(moments):
        output = Output(str(tmp_path / f"killed/{number}"))
        seen.append(hashes(output))
        assert seen[-1].items() <= whole, f"a torn file at moment {number}"
        assert {"00000-000.tar", "00000-001.tar"} <= seen[-1].keys()
        output.remove_stale(["shards"])
        write(output, 0, samples, max_bytes)
        assert hashes(output) == hashes(finished), "the next run finishes the work"
        assert sorted(os.listdir(tmp_path / f"killed/{number}/shards")) == sorted(hashes(finished)), "no leftovers"
    assert hashes(earlier) in seen
    assert any(0 < len(left.items() & hashes(finished).items()) < 2 for left in seen)
    assert any(hashes(finished).items() < left.items() for left in seen)


FULL_WRITER = """
import os, pickle, resource, signal, sys
sys.path.insert(0, os.getcwd())
from crawl.errors import one_line
from crawl.output import Output
from shards.format.tar import sample_size
from shards.format.write import write_bucket

samples = pickle.load(sys.stdin.buffer)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_bucket(Output(sys.argv[1]), 0, samples, [(s.identity, sample_size(s)) for s in samples], 10**9)
except OSError as error:
    print(error.errno, one_line(error), file=sys.stderr)
"""


@pytest.mark.parametrize("limit", [0, 100, 512, 5_000, 20_000])
def test_a_file_system_that_refuses_more_is_an_error_with_the_name(tmp_path, make_bucket, child, limit):
    said = child(FULL_WRITER, make_bucket([6]), tmp_path, limit)
    path = re.escape(str(tmp_path / "shards/00000-000.tar"))
    assert re.fullmatch(rf"{errno.EFBIG} {path}: File too large \([\d,]+ bytes free\)\n", said)
    assert os.listdir(tmp_path / "shards") == []


def test_a_full_disk_is_an_error_with_the_name(tmp_path, make_bucket, write, monkeypatch):
    def on_full_device(folder):
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, ".tmp-full")
        os.symlink("/dev/full", path)
        return os.open(path, os.O_WRONLY), path

    monkeypatch.setattr("crawl.output._temporary", on_full_device)
    with pytest.raises(OSError, match="No space left") as caught:
        write(Output(str(tmp_path)), 0, make_bucket([6]))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "shards/00000-000.tar")
    assert os.listdir(tmp_path / "shards") == []


def test_an_error_among_the_samples_leaves_no_file(tmp_path, make_bucket):
    samples = make_bucket([3])

    def broken():
        yield from samples[:2]
        raise RuntimeError("upstream")

    with pytest.raises(RuntimeError, match="upstream"):
        write_bucket(Output(str(tmp_path)), 0, broken(), [(s.identity, sample_size(s)) for s in samples], 10**9)
    assert os.listdir(tmp_path / "shards") == []
