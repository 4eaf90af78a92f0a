"""The engine's promises, with steps that do nothing but misbehave."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import ray

from crawl.errors import InputError, Paused
from crawl.output import Output
from crawl.photo import Photo
from crawl.stage import BucketWork
from crawl.tables import Entry, Tables
from shards.config import EngineConfig
from shards.steps.plan import WorkerError, must_answer, no_gpus, refuse_open_cluster, run_on_ray

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Step:
    """Writes a table; in bucket 3 does what it was told to."""

    name = "step"

    def __init__(self, url, fault=None):
        self.tables = Tables(Output(url))
        self.fault = fault
        self.url = url

    def fingerprint(self, bucket):
        return f"of {bucket}"

    def run(self, bucket, fingerprint, tick):
        if bucket == 3 and self.fault:
            self.fault(self.url)
        self.tables.write(self.name, bucket, Photo, [Entry("k", Photo("k", "i", "s", "h", 1))], fingerprint)
        tick(self.name, 5)


class Pausing(Step):
    """The first that comes is slow; the second pauses meanwhile."""

    def run(self, bucket, fingerprint, tick):
        if self.come("first"):
            Path(self.url, "in-work").write_text(str(bucket))
            time.sleep(2.0)
        elif self.come("second"):
            time.sleep(0.5)
            raise Paused("the budget is spent")
        else:
            time.sleep(0.5)
        super().run(bucket, fingerprint, tick)

    def come(self, name):
        try:
            os.close(os.open(f"{self.url}/{name}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def full_disk(url):
    raise OSError(28, "No space left on device", f"{url}/tables/step/00003.parquet")


def wrong_input(url):
    raise InputError("crawl.root: gone")


def note_gpus(url):
    Output(url).write("gpus", os.environ.get("CUDA_VISIBLE_DEVICES", "").encode())


def bug(url):
    raise KeyError("a fault of ours")


def die_once(url):
    try:
        os.close(os.open(f"{url}/died", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def die_always(url):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def run(local_ray, tmp_path):
    def run_with(fault=None, gpus=no_gpus, step=Step, **engine):
        counts = {}

        def tick(stage, photos):
            counts[stage] = counts.get(stage, 0) + photos

        url = str(tmp_path)
        work = BucketWork([step(url, fault)], Tables(Output(url)))
        run_on_ray(lambda: work, range(6), EngineConfig(**engine), 2, tick, gpus)
        return counts, Tables(Output(url))

    return run_with


@pytest.mark.slow
@pytest.mark.parametrize("per_task", [1, 4])
def test_every_bucket_is_done_and_counted(run, per_task):
    counts, tables = run(buckets_per_task=per_task)
    assert [tables.fingerprint("step", b) for b in range(6)] == [f"of {b}" for b in range(6)]
    assert counts == {"step": 30}


@pytest.mark.slow
def test_a_pause_lets_others_finish_and_begins_nothing_more(run, tmp_path):
    with pytest.raises(Paused, match=r"^the budget is spent$"):
        run(step=Pausing)
    done = {b for b in range(6) if Tables(Output(str(tmp_path))).fingerprint("step", b)}
    assert int((tmp_path / "in-work").read_text()) in done
    assert len(done) < 6


@pytest.mark.slow
def test_workers_are_given_their_gpus(run, tmp_path):
    _, tables = run(note_gpus, gpus=lambda there: 1.0 if there == 2 else 0.0)
    assert [tables.fingerprint("step", b) for b in range(6)] == [f"of {b}" for b in range(6)]
    assert (tmp_path / "gpus").read_text() in ("0", "1")


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(run):
    _, tables = run(die_once)
    assert tables.fingerprint("step", 3) == "of 3"


@pytest.mark.slow
def test_a_worker_that_always_dies_ends_the_build(run):
    with pytest.raises(WorkerError, match=r"engine\.worker_deaths=1"):
        run(die_always, worker_deaths=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kind", "line"),
    [
        (full_disk, InputError, r"00003\.parquet: No space left on device \([\d,]+ bytes free\)"),
        (wrong_input, InputError, r"^crawl\.root: gone$"),
        (bug, WorkerError, "KeyError: 'a fault of ours'"),
    ],
)
def test_errors_come_back_as_the_worker_met_them(run, fault, kind, line):
    with pytest.raises(kind, match=line):
        run(fault)


@pytest.mark.parametrize(
    ("engine", "address", "environment", "refused"),
    [
        ({}, None, {}, False),
        ({}, "auto", {}, False),
        ({}, "ray://127.0.0.1:10001", {}, False),
        ({}, "ray://cluster.example:10001", {}, True),
        ({}, "10.0.0.3:6379", {}, True),
        ({}, "10.0.0.3:6379", {"RAY_AUTH_MODE": "token"}, False),
        ({"allow_open_cluster": True}, "10.0.0.3:6379", {}, False),
        ({}, "10.0.0.3:6379", {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, False),
    ],
)
def test_an_open_cluster_is_refused(engine, address, environment, refused):
    config = EngineConfig(**engine)
    if refused:
        with pytest.raises(InputError, match=r"engine\.address: .*RAY_AUTH_MODE=token"):
            refuse_open_cluster(config, address, environment)
    else:
        refuse_open_cluster(config, address, environment)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "ray://localhost:{}"])
def test_an_address_where_nothing_listens_is_said_at_once(form):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = form.format(server.getsockname()[1])
        must_answer(address)
    begun = time.monotonic()
    with pytest.raises(InputError, match=rf"^engine\.address: {address}: nothing answers \(.*refused"):
        must_answer(address)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("address", ["nowhere.invalid:6379", "127.0.0.1:70000", ":6379x:0"])
def test_an_address_of_no_machine_is_one_line(address):
    with pytest.raises(InputError, match=r"^engine\.address: .*: nothing answers \("):
        must_answer(address)


@pytest.mark.parametrize("address", ["auto", "local"])
def test_what_ray_finds_itself_is_left_to_ray(address, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda *where: asked.append(where))
    must_answer(address)
    assert asked == []
