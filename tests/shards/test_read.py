"""Reading a dataset: everything once, in a known order, from where one stopped, and only from tars that are right."""

from __future__ import annotations

import collections
import io
import itertools
import json
import os
import pickle
import shutil
import signal
import threading
import traceback
from dataclasses import replace

import fsspec
import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shards.format.files
from crawl.errors import InputError
from crawl.output import Output
from shards.format.index import read_index, write_index
from shards.format.tar import ShardError
from shards.read import Dataset, npy_array


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_dataset):
    """(path, samples): nobody changes this one."""
    output, samples = write_dataset(tmp_path_factory.mktemp("read"))
    return output.url, samples


@pytest.fixture
def dataset(folder):
    with Dataset(folder[0]) as opened:
        yield opened


def keys(samples):
    return [sample.key for sample in samples]


def test_everything_written_is_read(dataset, folder):
    _, samples = folder
    assert len(dataset) == len(samples) == 16
    assert len(dataset.index.shards) > 3
    assert list(dataset.stream()) == samples
    assert [dataset.sample(sample.key) for sample in reversed(samples)] == samples[::-1]
    assert dataset.identities == list(dict.fromkeys(sample.identity for sample in samples))


def test_a_person_is_read_whole_even_from_several_tars(dataset, folder):
    _, samples = folder
    expected = [(i, [s for s in samples if s.identity == i]) for i in dataset.identities]
    assert [(i, dataset.samples_of(i)) for i in dataset.identities] == expected
    assert list(dataset.groups()) == expected
    shards_of = collections.Counter(i for i, _ in {(row.identity, row.shard) for row in dataset.index.rows()})
    assert max(shards_of.values()) > 1, "one of them is chunked"


@pytest.mark.parametrize("unknown", ["", "0" * 32, "../../etc/passwd"])
def test_unknown_keys(dataset, unknown):
    with pytest.raises(KeyError):
        dataset.sample(unknown)
    with pytest.raises(KeyError):
        dataset.samples_of(unknown)


def test_features_come_as_bytes(tmp_path, make_bucket, write):
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6, dtype=np.float16).reshape(2, 3))
    samples = make_bucket([3], features={"clip": buffer.getvalue(), "vae-mean": buffer.getvalue()})
    output = Output(str(tmp_path))
    write_index(output, 2, *write(output, 0, samples))
    assert list(Dataset(output.url).stream()) == samples


def test_shuffling_is_of_all_and_the_same_each_time(dataset, folder):
    _, samples = folder
    orders = [keys(dataset.stream(shuffle_seed=seed)) for seed in range(8)]
    assert all(sorted(order) == sorted(keys(samples)) for order in orders)
    assert len({tuple(order) for order in orders}) == 8
    assert [keys(dataset.stream(shuffle_seed=seed)) for seed in range(8)] == orders
    frozen = [1, 6, 8, 9, 13, 4, 2, 14, 10, 7, 15, 11, 3, 0, 5, 12]
    assert orders[0] == [samples[i].key for i in frozen], "a seed means the same order on every version and machine"


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 16, 20])
def test_readers_share_the_samples_without_missing_or_doubling_any(dataset, folder, seed, world_size):
    _, samples = folder
    parts = [keys(dataset.stream(seed, rank, world_size)) for rank in range(world_size)]
    assert sorted(itertools.chain(*parts)) == sorted(keys(samples))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [len(dataset.stream(seed, rank, world_size)) for rank in range(world_size)] == list(map(len, parts))
    groups = [i for rank in range(world_size) for i, _ in dataset.groups(seed, rank, world_size)]
    assert sorted(groups) == sorted(dataset.identities)


@pytest.mark.parametrize(("rank", "world_size"), [(1, 1), (-1, 2), (2, 2), (0, 0)])
def test_a_rank_outside_the_world(dataset, rank, world_size):
    with pytest.raises(ValueError, match="rank"):
        dataset.stream(rank=rank, world_size=world_size)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.one_of(st.none(), st.integers(0, 2**32 - 1)), st.integers(1, 3), st.booleans())
def test_resuming_misses_nothing_and_doubles_nothing(dataset, data, seed, world_size, grouped):
    start = dataset.groups if grouped else dataset.stream
    for rank in range(world_size):
        whole = list(start(seed, rank, world_size))
        stops = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        seen, stream = [], start(seed, rank, world_size)
        for stop in stops:
            seen += [next(stream) for _ in range(stop - len(seen))]
            state = json.loads(json.dumps(stream.state_dict()))
            stream = start(seed, rank, world_size)
            stream.load_state_dict(state)
        assert seen + list(stream) == whole


def test_state_is_taken_between_items_not_ahead_of_them(dataset):
    stream = dataset.stream()
    first, state, second = next(stream), stream.state_dict(), next(stream)
    stream.load_state_dict(state)
    assert next(stream) == second != first


def test_a_state_of_something_else_is_refused(dataset, tmp_path, write_dataset):
    state = dataset.stream(shuffle_seed=1).state_dict()
    for name, other in {
        "shuffle_seed": dataset.stream(shuffle_seed=2),
        "world_size": dataset.stream(shuffle_seed=1, world_size=2),
        "unit": dataset.groups(shuffle_seed=1),
        "dataset": Dataset(write_dataset(tmp_path, [[2], [2]])[0].url).stream(shuffle_seed=1),
    }.items():
        with pytest.raises(ValueError, match=f"state_dict: {name} is "):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="position 17 is not in 0 … 16"):
        dataset.stream(shuffle_seed=1).load_state_dict({**state, "position": 17})


def test_wrong_arguments_are_named(folder, dataset):
    with pytest.raises(InputError, match="verify: 'always'"):
        Dataset(folder[0], verify="always")
    with pytest.raises(InputError, match="on_bad_shard: 'ignore'"):
        dataset.stream(on_bad_shard="ignore")


def flip_in_picture(output, sample, dataset):
    """Flip one bit in the middle of the sample's square picture; returns the tar's path."""
    row = next(row for row in dataset.index.rows() if row.key == sample.key)
    path = output.path(f"shards/{row.shard}")
    with open(path, "r+b") as file:
        content = file.read()
        at = content.index(sample.image_jpeg, row.offset) + len(sample.image_jpeg) // 2
        file.seek(at)
        file.write(bytes([content[at] ^ 1]))
    return path


def test_a_tar_is_hashed_once_and_again_when_it_has_changed(dataset_folder):
    output, samples = dataset_folder
    dataset = Dataset(output.url)
    assert dataset.sample(samples[0].key) == samples[0]
    dataset.close()
    path = output.path("shards/00000-000.tar")
    before = os.stat(path)
    flip_in_picture(output, samples[0], dataset)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert dataset.sample(samples[0].key) != samples[0], "known by size and time: not hashed again"
    dataset.close()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ShardError, match="is damaged"):
        dataset.sample(samples[0].key)


def test_without_verification_only_the_hash_is_left_out(dataset_folder):
    output, samples = dataset_folder
    path = flip_in_picture(output, samples[0], Dataset(output.url))
    assert Dataset(output.url, verify="never").sample(samples[0].key) != samples[0]
    with pytest.raises(ShardError, match="is damaged"):
        Dataset(output.url).sample(samples[0].key)
    os.truncate(path, os.path.getsize(path) - 512)
    with pytest.raises(ShardError, match="the index says"):
        Dataset(output.url, verify="never").sample(samples[0].key)


def with_checksums(output, change):
    """Write the index again with each shard's row changed."""
    index = read_index(output)
    write_index(output, index.buckets, [change(shard) for shard in index.shards], index.rows())


@pytest.mark.parametrize("verify", ["first", "sha256"])
def test_an_index_without_fast_checksums_is_checked_by_sha256(dataset_folder, verify):
    output, samples = dataset_folder
    with_checksums(output, lambda shard: replace(shard, xxh3_128=None))
    assert list(Dataset(output.url, verify).stream()) == samples
    flip_in_picture(output, samples[0], Dataset(output.url))
    with pytest.raises(ShardError, match="is damaged: its sha256 is"):
        Dataset(output.url, verify).sample(samples[0].key)


def test_only_sha256_tells_a_tar_made_to_deceive(dataset_folder):
    """Whoever can find another tar with the same XXH3 stands here as an index whose XXH3 fits the wrong tar."""
    output, samples = dataset_folder
    path = flip_in_picture(output, samples[0], Dataset(output.url))
    with open(path, "rb") as file:
        forged = xxhash.xxh3_128(file.read()).hexdigest()
    with_checksums(output, lambda s: replace(s, xxh3_128=forged) if path.endswith(s.file) else s)
    assert Dataset(output.url).sample(samples[0].key) != samples[0]
    with pytest.raises(ShardError, match="is damaged: its sha256 is"):
        Dataset(output.url, verify="sha256").sample(samples[0].key)


@pytest.mark.parametrize("verify", ["first", "sha256", "never"])
def test_a_missing_tar_is_named(dataset_folder, verify):
    output, samples = dataset_folder
    os.unlink(output.path("shards/00000-000.tar"))
    with pytest.raises(ShardError, match=r"00000-000\.tar: is missing"):
        Dataset(output.url, verify=verify).sample(samples[0].key)


@pytest.mark.parametrize("start", ["stream", "groups"])
def test_skipping_a_bad_tar_counts_what_it_costs(dataset_folder, start):
    output, samples = dataset_folder
    path = flip_in_picture(output, samples[0], Dataset(output.url))
    dataset = Dataset(output.url)
    with pytest.raises(ShardError, match="damaged"):
        list(getattr(dataset, start)())
    lost = [row.key for row in dataset.index.rows() if output.path(f"shards/{row.shard}") == path]
    stream = getattr(dataset, start)(on_bad_shard="skip")
    given = list(stream) if start == "stream" else [s for _, group in stream for s in group]
    assert keys(given) == [sample.key for sample in samples if sample.key not in lost]
    (skipped,) = stream.skipped
    assert (skipped.shard, skipped.samples) == (path, len(lost))
    assert "is damaged" in skipped.reason
    assert len(given) + skipped.samples == len(dataset)
    with pytest.raises(ShardError, match="damaged") as caught:
        dataset.sample(samples[0].key)
    assert len(traceback.extract_tb(caught.value.__traceback__)) < 10, "errors do not pile up"


def test_what_was_skipped_is_remembered_over_a_resume(dataset_folder):
    output, samples = dataset_folder
    flip_in_picture(output, samples[0], Dataset(output.url))
    flip_in_picture(output, samples[-1], Dataset(output.url))
    stream = Dataset(output.url).stream(on_bad_shard="skip")
    given = [next(stream), next(stream)]
    state = json.loads(json.dumps(stream.state_dict()))
    stream = Dataset(output.url).stream(on_bad_shard="skip")
    stream.load_state_dict(state)
    given += list(stream)
    assert len(stream.skipped) == 2
    assert len(given) + sum(skipped.samples for skipped in stream.skipped) == len(samples)


def test_a_pipe_under_a_tars_name_is_not_waited_for(dataset_folder):
    output, samples = dataset_folder
    os.unlink(output.path("shards/00000-000.tar"))
    os.mkfifo(output.path("shards/00000-000.tar"))
    with pytest.raises(ShardError, match="has 0 bytes"):
        Dataset(output.url).sample(samples[0].key)


def test_a_stopped_stream_stays_stopped(dataset_folder):
    """An error must not be the way to lose the sample it came with."""
    output, samples = dataset_folder
    flip_in_picture(output, samples[0], Dataset(output.url))
    stream = Dataset(output.url).stream()
    for _ in range(3):
        with pytest.raises(ShardError):
            next(stream)


def test_one_person_of_a_bad_tar_is_never_given_in_part(dataset_folder):
    output, samples = dataset_folder
    flip_in_picture(output, samples[0], Dataset(output.url))
    with pytest.raises(ShardError):
        Dataset(output.url).samples_of(samples[0].identity)


def test_few_files_are_open_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(shards.format.files, "_MAX_OPEN", 2)
    url, samples = folder
    before = len(os.listdir("/proc/self/fd"))
    dataset = Dataset(url)
    assert sorted(keys(dataset.stream(shuffle_seed=5))) == sorted(keys(samples))
    assert len(os.listdir("/proc/self/fd")) == before + 2
    del dataset
    assert len(os.listdir("/proc/self/fd")) == before


def test_copies_for_workers_read_on_their_own(dataset, folder):
    _, samples = folder
    dataset.sample(samples[0].key)
    copy = pickle.loads(pickle.dumps(dataset))
    dataset.close()
    assert list(copy.stream()) == samples == list(dataset.stream())
    copy.close()


def test_forked_workers_share_open_files_safely(dataset, folder):
    _, samples = folder
    list(dataset.stream())
    children = []
    for rank in range(4):
        child = os.fork()
        if not child:
            wrong = any(dataset.sample(s.key) != s for _ in range(20) for s in samples[rank::4])
            os._exit(int(wrong))
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4


@pytest.mark.parametrize("verify", ["first", "sha256", "never"])
def test_a_dataset_behind_a_url(folder, verify, monkeypatch, tmp_path):
    url, samples = folder
    remote = Output(f"memory://{tmp_path.name}-{verify}/dataset")
    for name in os.listdir(f"{url}/shards"):
        with open(f"{url}/shards/{name}", "rb") as file:
            remote.write(f"shards/{name}", file.read())
    monkeypatch.setattr(shards.format.files, "_MAX_COPIES", 2)
    with Dataset(remote.url, verify) as dataset:
        assert list(dataset.stream()) == samples
        assert sorted(keys(dataset.stream(shuffle_seed=1))) == sorted(keys(samples))
        assert dataset.samples_of(samples[0].identity)[0] == samples[0]
    name = "shards/00000-000.tar"
    remote.write(name, remote.read(name)[:-512])
    with Dataset(remote.url, verify) as dataset, pytest.raises(ShardError, match="the index says"):
        dataset.sample(samples[0].key)
    remote.remove(name)
    with Dataset(remote.url, verify) as dataset, pytest.raises(ShardError, match="is missing"):
        dataset.sample(samples[0].key)
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}-{verify}", recursive=True)


def test_the_next_tar_is_checked_ahead_and_said_when_it_is_its_turn(dataset_folder):
    output, samples = dataset_folder
    flip_in_picture(output, samples[3], Dataset(output.url))
    dataset = Dataset(output.url)
    stream = dataset.stream()
    assert [next(stream) for _ in range(3)] == samples[:3]
    with pytest.raises(ShardError, match=r"00000-001\.tar: is damaged"):
        next(stream)
    dataset.close()


def test_each_tar_is_hashed_once_however_often_it_is_read(folder, monkeypatch):
    hashed, digest = [], shards.format.files._digest
    monkeypatch.setattr(shards.format.files, "_digest", lambda file, kind: hashed.append(file) or digest(file, kind))
    with Dataset(folder[0]) as dataset:
        for epoch in (dataset.stream, dataset.groups, lambda: dataset.stream(shuffle_seed=1)):
            list(epoch())
            assert len(hashed) == len(dataset.index.shards)


def test_closing_while_the_next_tar_is_checked_leaves_nothing_open(folder):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        dataset = Dataset(folder[0])
        next(dataset.stream())
        dataset.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fork_while_the_next_tar_is_checked_does_not_wait_for_a_thread_it_has_not(folder, monkeypatch):
    url, samples = folder
    parent, slow, checked = os.getpid(), threading.Event(), shards.format.files.ShardFiles._open_checked

    def wait(files, number):
        if os.getpid() == parent and threading.current_thread() is not threading.main_thread():
            slow.wait(60)
        return checked(files, number)

    monkeypatch.setattr(shards.format.files.ShardFiles, "_open_checked", wait)
    dataset = Dataset(url)
    stream = dataset.stream()
    next(stream)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        os._exit(int(list(stream) != samples[1:]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    slow.set()
    assert list(stream) == samples[1:]
    dataset.close()


def test_a_tar_behind_a_symbolic_link_is_a_tar(tmp_path, folder):
    """As in the cache of huggingface_hub, where every file of a snapshot is a link."""
    url, samples = folder
    shutil.copytree(url, tmp_path / "blobs")
    (tmp_path / "snapshot/shards").mkdir(parents=True)
    for name in os.listdir(tmp_path / "blobs/shards"):
        (tmp_path / "snapshot/shards" / name).symlink_to(tmp_path / "blobs/shards" / name)
    assert list(Dataset(str(tmp_path / "snapshot")).stream()) == samples


def test_no_dataset_there(tmp_path):
    with pytest.raises(InputError, match="no finished dataset there"):
        Dataset(str(tmp_path))


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "|u1", "<i8", "|b1"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_an_array_is_read_as_numpy_reads_it(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    for laid_out in (array, np.asfortranarray(array)):
        buffer = io.BytesIO()
        np.save(buffer, laid_out)
        got = npy_array(buffer.getvalue(), "a.npy", "b.tar")
        assert got.dtype == array.dtype
        assert got.shape == laid_out.shape
        assert np.array_equal(got, laid_out)
