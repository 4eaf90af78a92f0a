"""`ray job submit` on a cluster that asks for a token, as docs/operations.md says."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from demo.photos import make_photos

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2)
    except urllib.error.HTTPError:
        return True  # it is there, and asks for the token
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head node on loopback, ended by its own process id."""
    folder = tmp_path_factory.mktemp("ray")
    dashboard = free_port()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PATH": path}
    start = [
        "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={free_port()}", "--num-cpus=2",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}",
        f"--ray-client-server-port={free_port()}", "--object-store-memory=200000000", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(start, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{dashboard}"
    deadline = time.monotonic() + 90
    while not answers(f"{address}/api/version"):
        assert head.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "the head node did not come up"
        time.sleep(1)
    yield address, environment
    head.terminate()
    head.wait(60)


def submit(cluster, *command, token=True):
    address, environment = cluster
    if not token:
        environment = {k: v for k, v in environment.items() if k != "RAY_AUTH_TOKEN"} | {"RAY_AUTH_TOKEN": "0" * 64}
    job = ["ray", "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", *command]
    return subprocess.run(job, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_a_job_builds_a_dataset(cluster, tmp_path):
    make_photos(tmp_path / "photos", views=4)
    for person in ("group-5", "group-6", "portrait", "astronaut"):
        shutil.rmtree(tmp_path / "photos" / person)
    settings = ["filter.min_side_px=256", "filter.min_face_px=128", "filter.size_px=128", "shards.buckets=2"]
    build = ["python", "-m", "shards", "build", "configs/thesis.yaml", "filter.models=embedded", *settings]
    result = submit(cluster, *build, f"output={tmp_path}/out", f"crawl.root={tmp_path}/photos")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "succeeded" in result.stdout
    assert list((tmp_path / "out" / "shards").glob("*.tar"))
    assert "Funnel" in result.stdout


def test_a_relative_output_is_refused_in_a_job(cluster, tmp_path):
    make_photos(tmp_path / "photos", views=1)
    result = submit(cluster, "python", "-m", "shards", "build", "configs/thesis.yaml", f"crawl.root={tmp_path}/photos")
    assert result.returncode != 0
    assert "give an absolute path or a URL when the build runs as a Ray job" in result.stdout + result.stderr


def test_without_the_token_nothing_is_submitted(cluster, tmp_path):
    result = submit(cluster, "python", "-c", f"open({str(tmp_path / 'ran')!r}, 'w')", token=False)
    assert result.returncode != 0
    assert not (tmp_path / "ran").exists()
