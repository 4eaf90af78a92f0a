"""Small datasets built from real photos in this process, from a folder or a web site; a search of every byte."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.server
import io
import shutil
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import ClassVar

import pyarrow.parquet as pq
import pytest

from crawl.fetching.api import Api
from crawl.harvest import HostWork, fetch_settings, harvest
from crawl.output import Output
from crawl.stage import run_pending
from crawl.tables import Tables
from demo.photos import make_photos
from filter.doubles import find_doubles
from shards.beside.resolved import write_resolved
from shards.card.write import write_card
from shards.config import BuildRun
from shards.removal.takedown import forget_returned
from shards.steps.stages import first_half, second_half
from shards.steps.whole import is_whole, whole_stamp, write_whole

BUCKETS = 4
PEOPLE = ("group-2", "group-3", "astronaut")
FILTER = {"min_side_px": 256, "min_face_px": 128, "size_px": 128, "face_size_px": 112}


@pytest.fixture(scope="session")
def build() -> Callable[..., list[str]]:
    """(run) → the names of what was done; a build without Ray."""

    def run_build(run: BuildRun) -> list[str]:
        output, done, silent = Output(run.output), [], lambda stage, photos: None
        tables, buckets = Tables(output), range(run.shards.buckets)
        write_resolved(run, output)
        if run.crawl.network_sources:
            work = HostWork(run, dataclasses.replace(fetch_settings(run.crawl), backoff_s=0.01))
            ask = functools.partial(_each, work)
            harvest(run, output, Api(None, None, None, Random(0)), ask, datetime(2026, 1, 2, tzinfo=UTC))  # type: ignore[arg-type]
        for bucket in buckets:
            done += run_pending(first_half(run, output), bucket, tables, silent)
        forget_returned(run, output)
        doubles = find_doubles(run, output)
        for bucket in buckets:
            done += run_pending(second_half(run, output, doubles), bucket, tables, silent)
        stamp = whole_stamp(run, output, doubles)
        if not is_whole(output, stamp):
            write_whole(run, output, stamp)
            done.append("whole")
        done += ["card"] if write_card(run, output) else []
        return done

    return run_build


def _each(work: HostWork, hosts: list[str]) -> None:
    for host in hosts:
        work(host, lambda stage, photos: None)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """PERSON/view-N.jpg; one photo of group-2 lies in group-3's folder too."""
    root = tmp_path_factory.mktemp("views")
    make_photos(root, views=4)
    for folder in root.iterdir():
        if folder.name not in PEOPLE:
            shutil.rmtree(folder)
    shutil.copy(root / "group-2" / "view-0.jpg", root / "group-3" / "planted.jpg")
    return root


@pytest.fixture(scope="session")
def local_run() -> Callable[[Path], BuildRun]:
    return _local_run


def _local_run(folder: Path) -> BuildRun:
    """Of `folder/photos` into `folder/out`."""
    document = {
        "output": str(folder / "out"),
        "crawl": {"root": str(folder / "photos")},
        "filter": FILTER,
        "shards": {"buckets": BUCKETS, "max_shard_mb": 0.06},
    }
    return BuildRun.model_validate(document)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory, photos, build) -> Path:
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(photos, folder / "photos", copy_function=shutil.copy2)
    build(_local_run(folder))
    (folder / "out" / "tables" / ".lock").touch()  # as a build that took it leaves it
    return folder


@pytest.fixture
def built(tmp_path, built_once) -> tuple[Path, BuildRun]:
    """A finished dataset of its own, in `folder/out`, of photos in `folder/photos`; and its settings."""
    shutil.copytree(built_once, tmp_path / "d", copy_function=shutil.copy2)
    run = _local_run(tmp_path / "d")
    write_resolved(run, Output(run.output))
    return tmp_path / "d", run


class _Quiet(http.server.SimpleHTTPRequestHandler):
    hits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.hits.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path, photos) -> Iterator[tuple[str, list[str]]]:
    """(address of a web site of the photos, the paths that were asked for)."""
    _Quiet.hits = []
    shutil.copytree(photos, tmp_path / "www")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with contextlib.closing(server.socket):
        yield f"http://127.0.0.1:{server.server_port}", _Quiet.hits
        server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def places() -> Callable[[Path, list[bytes]], list[str]]:
    """(folder, words) → every place where one of the words is found."""
    return _places


def _places(folder: Path, words: list[bytes]) -> list[str]:
    """Every file of a folder in which one of the words is found, raw or in anything that can be unpacked of it."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            blob = b"\0".join(_unpacked(file))
            found += [f"{file.relative_to(folder)}: {word[:60]!r}" for word in words if word in blob]
    return found


def _unpacked(file: Path) -> Iterator[bytes]:
    content = file.read_bytes()
    yield str(file).encode()
    yield content
    if file.suffix == ".parquet":
        table = pq.ParquetFile(io.BytesIO(content))
        yield repr(table.schema_arrow.metadata).encode()
        for row in table.read().to_pylist():
            yield from _leaves(row)
    elif file.suffix == ".tar":
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                yield member.name.encode()
                yield tar.extractfile(member).read()  # type: ignore[union-attr]
    for magic in (b"\x1f\x8b\x08", b"\x78\x9c", b"\x78\x01", b"\x78\xda"):
        at = content.find(magic)
        while at >= 0:
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj(47).decompress(content[at:], 1 << 22)
            at = content.find(magic, at + 1)


def _leaves(value: object) -> Iterator[bytes]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, bytes):
        yield value
    elif value is not None:
        yield str(value).encode()
