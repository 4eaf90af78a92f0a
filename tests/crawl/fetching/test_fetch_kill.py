"""SIGKILL at random moments, of the fetching process and of its parent, then the same call again."""

import dataclasses
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from crawl.fetching.fetch import FetchSettings, by_host, fetch_partitions, read_rows
from crawl.fetching.target import Target
from crawl.output import Output

HOSTS = ("127.0.1.1", "127.0.1.2")
PHOTOS = 12
SETTINGS = FetchSettings(
    interval_s=0.002, timeout_s=5, retries=0, backoff_s=0.01, allowed_networks=("127.0.1.0/24",), hosts_at_once=2
)
PARENT = """
import json, sys
from crawl.fetching.fetch import FetchSettings, by_host, fetch_partitions
from crawl.output import Output
from crawl.fetching.target import Target
job = json.load(sys.stdin)
targets = by_host(Target(**t) for t in job["targets"])
fetch_partitions(targets, FetchSettings.from_record(job["settings"]), Output(job["output"]), lambda stage, photos: None)
"""


@pytest.fixture
def site(hostile_server, answers):
    """Two hosts of photos, with a dead link, a refusal and a redirect among them."""
    server = hostile_server(host="0.0.0.0")
    for number, host in enumerate(HOSTS):
        for n in range(PHOTOS):
            server.route(f"/{n}.jpg", answers.slow(0.002, answers.ok(photo(n + 7 * number))), host)
        server.route("/3.jpg", answers.status(404), host)
        server.route("/5.jpg", answers.ok(photo(99), headers=[("X-Robots-Tag", "noai")]), host)
        server.route("/8.jpg", answers.redirect("/9.jpg"), host)
        server.route("/robots.txt", answers.text("User-agent: *\nDisallow: /10.jpg"), host)
    return server


def photo(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def fetched(targets, output):
    """All that is to be equal: the stored files, and every row but for its time."""
    photos = sorted(
        (file, os.path.getsize(os.path.join(folder, file)))
        for folder, _, files in os.walk(output.path("photos"))
        for file in files
        if not file.startswith(".tmp-")  # what a killed process was writing; a build removes them
    )
    rows = [
        dataclasses.replace(row, fetched_at="")
        for host, hosts in by_host(targets).items()
        for row in read_rows(host, hosts, output)
    ]
    return photos, rows, output.names("tables/fetch")  # without temporaries, too


def targets_of(site):
    return [Target(f"name {n % 4}", site.url(f"/{n}.jpg", host)) for n in range(PHOTOS) for host in HOSTS]


def fetchers():
    """Process ids of all fetching processes of this user that belong to this test run."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file, open(f"/proc/{pid}/environ", "rb") as environment:
                if b"crawl.fetching.child" in file.read() and MARK in environment.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


RULES = {"/robots.txt", "/.well-known/tdmrep.json"}
MARK = f"PERSONAE_TEST_RUN={os.getpid()}".encode()


@pytest.fixture
def marked(monkeypatch):
    monkeypatch.setenv(*MARK.decode().split("="))


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.001)


def kill_child(site, targets, output, hits, delay_s):
    """The fetching process dies; its parent lives and goes on. How many died."""

    def kill():
        wait_for(lambda: len(site.hits) >= hits or not working.is_alive())
        time.sleep(delay_s)
        for pid in fetchers():
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    killed = []
    working = threading.current_thread()
    killer = threading.Thread(target=kill)
    killer.start()
    fetch_partitions(by_host(targets), SETTINGS, output, lambda stage, photos: None)
    killer.join()
    return len(killed)


def kill_parent(site, targets, output, hits, delay_s):
    """The parent dies, and the fetching process with it. Whether it was still at work."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, text=True)
    job = {
        "targets": [dataclasses.asdict(t) for t in targets],
        "settings": dataclasses.asdict(SETTINGS),
        "output": output.url,
    }
    with process.stdin as pipe:
        json.dump(job, pipe)
    try:
        wait_for(lambda: len(site.hits) >= hits or process.poll() is not None)
        time.sleep(delay_s)
        alive = process.poll() is None
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not fetchers(), seconds=30)
    return alive


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_child, kill_parent])
def test_a_fetch_killed_at_random_moments_ends_as_if_nothing_had_happened(kill, site, tmp_path, marked):
    rng = random.Random(kill.__name__)
    whole, targets = Output(str(tmp_path / "whole")), targets_of(site)
    fetch_partitions(by_host(targets), SETTINGS, whole, lambda stage, photos: None)
    expected, in_all, killed = fetched(targets, whole), len(site.hits), 0
    assert len(expected[1]) == len(targets)
    for number in range(10):
        cut = Output(str(tmp_path / f"cut-{number}"))
        site.hits.clear()
        killed += kill(site, targets, cut, rng.randint(1, in_all), rng.uniform(0, 0.02))
        fetch_partitions(by_host(targets), SETTINGS, cut, lambda stage, photos: None)
        assert fetched(targets, cut) == expected
        for host in HOSTS:
            paths = site.paths(host)
            twice = [path for path in set(paths) - RULES - {"/9.jpg"} if paths.count(path) > 1]
            assert len(twice) <= 1, "more than what was in flight was asked again"
            assert site.max_concurrency(host) == 1
    assert killed >= 8, "most were over before they could be killed: this says nothing"


def test_what_is_killed_again_and_again_still_ends(site, tmp_path, marked):
    """Every attempt gets a little further; a torn last line and a torn file are left behind on purpose."""
    targets, output = targets_of(site), Output(str(tmp_path / "cut"))
    for n in range(2):
        kill_parent(site, targets, output, len(site.hits) + 10 + n, 0)
        for name in os.listdir(output.path("tables/fetch")):
            if name.endswith(".journal"):
                with open(output.path(f"tables/fetch/{name}"), "ab") as journal:
                    journal.write(b'{"key": "torn')
    fetch_partitions(by_host(targets), SETTINGS, output, lambda stage, photos: None)
    photos, rows, files = fetched(targets, output)
    assert len(rows) == len(targets)
    assert [name for name in files if not name.endswith(".parquet")] == []
    assert len({row.sha256 for row in rows} - {""}) == len(photos)
