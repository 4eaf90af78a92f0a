"""The whole build as its user runs it: real photos, real models, a process that may be killed."""

import fcntl
import functools
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crawl.output import Output
from crawl.photo import bucket_of, identity_key
from demo.photos import make_photos
from shards.card.check import differences

ROOT = Path(__file__).parents[2]
RUN = """
output: {output}
crawl: {{root: {root}}}
filter: {{min_side_px: 256, min_face_px: 128, size_px: 128, face_size_px: 112}}
shards: {{buckets: 4, max_shard_mb: 0.2}}
engine: {{cpus: 2}}
"""
PUBLISHED = ("shards/*", "ledger.parquet")
NEWCOMER = "astronaut"
BUCKETS = 4
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    planted = make_photos(root, views=6)
    shutil.move(root / NEWCOMER, root.with_name("newcomer"))
    (root / "group-2" / "not-a-photo.jpg").write_text("<html>")
    (root / "group-2" / "empty.png").write_bytes(b"")
    shutil.copy(root / "group-2" / "view-0.jpg", root / "group-2" / "zz-copy.jpg")
    (root / "stray.jpg").write_bytes(b"nobody's")
    return root, planted


def command(folder, root, *overrides):
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "run.yaml"
    config.write_text(RUN.format(output=folder / "out", root=root))
    return [sys.executable, "-m", "shards", "build", str(config), *overrides]


def build(folder, root, *overrides, code=0):
    result = subprocess.run(command(folder, root, *overrides), cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result


def published(folder):
    files = sorted(f for pattern in PUBLISHED for f in (folder / "out").glob(pattern))
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def ledger(folder):
    return {row["source"]: row for row in pq.read_table(folder / "out" / "ledger.parquet").to_pylist()}


@pytest.fixture(scope="module")
def built(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, build(folder, photos[0])


def test_every_file_found_has_one_row_and_one_reason(built, photos):
    folder, result = built
    rows = ledger(folder)
    files = sorted(f.relative_to(photos[0]).as_posix() for f in photos[0].rglob("*") if f.is_file())
    assert sorted(rows) == files
    assert all((row["reason"] is None) == (row["status"] == "kept") for row in rows.values())
    assert rows["stray.jpg"]["status"] == "failed"
    assert rows["group-2/not-a-photo.jpg"]["stage"] == "decode"
    assert rows["group-2/empty.png"]["reason"] == "empty"
    copies = [rows["group-2/view-0.jpg"], rows["group-2/zz-copy.jpg"]]
    assert Counter(c["reason"] for c in copies)["duplicate"] == 1
    (duplicate,) = [c for c in copies if c["reason"] == "duplicate"]
    assert duplicate["duplicate_of"] in {c["key"] for c in copies} - {duplicate["key"]}
    assert "Funnel" in result.stdout


def test_planted_photos_are_rejected_and_the_others_kept(built, photos):
    rows = ledger(built[0])
    for source in photos[1]:
        assert (rows[source]["status"], rows[source]["stage"]) == ("rejected", "verify"), rows[source]
    views = [row for source, row in rows.items() if "/view-" in source]
    kept = sum(row["status"] == "kept" for row in views)
    assert kept >= 0.75 * len(views), Counter(row["reason"] for row in views)


def test_the_index_lists_what_the_ledger_keeps(built):
    index = json.loads((built[0] / "out" / "shards" / "index.json").read_text())
    listed = {place[0] for places in index["identities"].values() for place in places}
    assert listed == {row["key"] for row in ledger(built[0]).values() if row["status"] == "kept"}
    assert differences(Output(str(built[0] / "out"))) == []


def test_verify_and_info_agree(built):
    for name in ("verify", "info"):
        arguments = [sys.executable, "-m", "shards", name, str(built[0] / "out")]
        result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout


def test_a_finished_build_does_nothing(built, photos):
    before = {
        f: f.stat().st_mtime_ns
        for f in (built[0] / "out").rglob("*")
        if f.is_file() and f.name != "config.resolved.yaml" and f.name != ".lock"
    }
    start = time.monotonic()
    result = build(built[0], photos[0])
    took = time.monotonic() - start
    assert "Nothing to do" in result.stdout
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert took < 15, f"{took:.1f} s"


def test_another_folder_one_cpu_and_larger_tasks_give_the_same_bytes(built, photos, tmp_path):
    build(tmp_path, photos[0], "engine.cpus=1", "engine.buckets_per_task=3")
    assert published(tmp_path) == published(built[0])


@pytest.fixture
def copied(built, photos, tmp_path):
    """A copy of the finished dataset and of its photos, as if nothing had been touched."""
    shutil.copytree(photos[0], tmp_path / "photos", copy_function=shutil.copy2)
    shutil.copytree(built[0], tmp_path / "d")
    return tmp_path / "d", tmp_path / "photos"


def test_a_new_person_rewrites_one_bucket(copied, photos):
    folder, root = copied
    before = published(folder)
    shutil.copytree(photos[0].with_name("newcomer"), root / NEWCOMER)
    build(folder, root)
    after = published(folder)
    changed = {int(n[:5]) for n in {*before, *after} if n.endswith(".tar") and before.get(n) != after.get(n)}
    assert changed == {bucket_of(identity_key(NEWCOMER), BUCKETS)}
    assert sum(row["status"] == "kept" for source, row in ledger(folder).items() if source.startswith(NEWCOMER)) >= 3


def test_a_lost_shard_is_made_again(copied):
    folder, root = copied
    before = published(folder)
    for lost in sorted((folder / "out" / "shards").glob("*.tar"))[:2]:
        lost.unlink()
    build(folder, root)
    assert published(folder) == before


def test_a_changed_threshold_redoes_only_what_depends_on_it(built, photos, tmp_path):
    shutil.copytree(built[0], tmp_path / "d")
    tables = tmp_path / "d" / "out" / "tables"
    before = {f: f.stat().st_mtime_ns for f in tables.glob("*/*.parquet")}
    build(tmp_path / "d", photos[0], "filter.jpeg_quality=80")
    redone = {f.parent.name for f in before if f.stat().st_mtime_ns != before[f]}
    assert redone == {"crop", "caption", "efforts", "shards", "tars"}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_build_is_finished_by_the_same_command(built, photos, tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(2):
        process = subprocess.Popen(
            command(tmp_path, photos[0]), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stage = rng.choice(["crawl", "scan", "verify", "crop", "shards"])
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if list((tmp_path / "out" / "tables" / stage).glob("*.parquet")):
                break
            time.sleep(0.02)
        time.sleep(rng.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    build(tmp_path, photos[0])
    assert published(tmp_path) == published(built[0])
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_a_killed_worker_changes_nothing(built, photos, tmp_path):
    process = subprocess.Popen(
        command(tmp_path, photos[0]), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    killed = 0
    while process.poll() is None and killed < 2:
        for journal in (tmp_path / "out" / "tables").glob(".scan-*.holds"):
            for pid in _holders(journal):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.1)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert killed
    assert published(tmp_path) == published(built[0])


def _holders(path):
    """Processes that have this file open."""
    pids = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if descriptor.readlink() == path:
                pids.append(int(descriptor.parts[2]))
        except OSError:
            continue
    return pids


POISON = b"this photo kills whoever decodes it"
SITECUSTOMIZE = f"""
import os, signal
import crawl.decode
decode_picture = crawl.decode.decode_picture
def poisoned(content, *rest):
    if content.endswith({POISON!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_picture(content, *rest)
crawl.decode.decode_picture = poisoned
"""


def test_photos_that_kill_the_decoder_cost_one_row_each(photos, tmp_path):
    root = tmp_path / "photos"
    for person in ("group-1", "group-2"):
        shutil.copytree(photos[0] / person, root / person)
        healthy = (root / person / "view-0.jpg").read_bytes()
        (root / person / "poison.jpg").write_bytes(healthy + POISON)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])
    result = subprocess.run(
        command(tmp_path, root),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = ledger(tmp_path)
    assert {s for s, row in rows.items() if row["reason"] == "crash"} == {"group-1/poison.jpg", "group-2/poison.jpg"}
    assert len(rows) == sum(f.is_file() for f in root.rglob("*"))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["crawl.root=/nowhere/photos"], "/nowhere/photos"),
        (["output=/proc/nowhere"], "/proc/nowhere"),
        (["output=/etc/hostname"], "/etc/hostname"),
        (["filter.verify.threshold=1.5"], "filter.verify.threshold"),
        (["engine.address=nowhere.invalid:1"], "engine.address"),
    ],
)
def test_wrong_input_is_one_line_and_a_non_zero_exit(photos, tmp_path, overrides, line):
    result = build(tmp_path, photos[0], *overrides, code=2)
    assert line in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_folder_of_another_format_is_left_alone(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.resolved.yaml").write_text("format: 99\n")
    result = build(tmp_path, photos[0], code=2)
    assert "format 99" in result.stderr
    assert not (tmp_path / "out" / "shards").exists()


def test_two_builds_into_one_folder_are_refused(photos, tmp_path):
    (tmp_path / "out" / "tables").mkdir(parents=True)
    with open(tmp_path / "out" / "tables" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another build is writing here" in build(tmp_path, photos[0], code=2).stderr


def test_names_stay_in_one_file(built, photos):
    names = [person.name.encode() for person in photos[0].iterdir() if person.is_dir()]
    told = [built[0] / "out" / name for name in ("README.md", "croissant.json")]
    published_files = [*(built[0] / "out" / "shards").iterdir(), *told]
    for file in published_files:
        content = file.read_bytes()
        assert not [name for name in names if name in content], file
    rows = pq.read_table(built[0] / "out" / "identities.parquet").to_pylist()
    assert sorted(row["name"].encode() for row in rows) == sorted(names)


def test_a_build_from_urls_on_the_engine(photos, tmp_path):
    """Photos come over HTTP from an own host; the address guard would refuse loopback to anybody else."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=photos[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        lines = [
            f"{f.parent.name},http://{address}/{f.parent.name}/{f.name}" for f in photos[0].glob("group-[12]/view*")
        ]
        (tmp_path / "urls.csv").write_text("\n".join(["name,url", *lines]))
        (tmp_path / "run.yaml").write_text(
            RUN.format(output=tmp_path / "out", root="unused").replace(
                "crawl: {root: unused}",
                f"crawl: {{source: urls, path: {tmp_path}/urls.csv, contact: me@example.org, interval_s: 0, "
                f"own_hosts: ['{address}']}}",
            )
        )
        command = [sys.executable, "-m", "shards", "build", str(tmp_path / "run.yaml")]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        server.shutdown()
    assert result.returncode == 0, result.stdout + result.stderr
    rows = ledger(tmp_path)
    assert len(rows) == len(lines) == 12
    kept = [row for row in rows.values() if row["status"] == "kept"]
    assert len(kept) >= 4, "which views of one picture are copies of others depends on keys, and so on the port"
    assert all(row["http_status"] == 200 for row in rows.values())
    assert all(row["http_status"] == 200 and row["image_url"] == row["source"] for row in kept)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Nothing to do" in again.stdout, "the server is gone, and nothing is asked of it"
