"""Samples made of real rows and small real JPEGs, and dataset folders made of them."""

from __future__ import annotations

import io
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caption.captioned import Caption, Captioned
from crawl.config import CrawlConfig
from crawl.output import Output
from crawl.photo import Photo, bucket_of, identity_key, photo_key
from crawl.tables import arrow_schema, to_record
from filter.portrait import Portrait
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import Identity
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import LedgerRow
from shards.beside.resolved import write_resolved
from shards.config import BuildRun
from shards.format.index import IndexRow, ShardRow, write_index
from shards.format.sample import Sample, to_sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket

BUCKETS = 2
SIZE_PX = 48


@pytest.fixture(scope="session")
def jpeg() -> Callable[[int, int], bytes]:
    """(seed, side) → a JPEG of stripes."""

    def make(seed: int, side: int = SIZE_PX) -> bytes:
        y, x = np.mgrid[:side, :side]
        angle = np.random.RandomState(seed).rand(3) * 6
        bands = [127 + 120 * np.sin(x / 5 * np.cos(a) + y / 5 * np.sin(a) + a) for a in angle]
        buffer = io.BytesIO()
        Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def make_row(jpeg: Callable[[int, int], bytes]) -> Callable[[str, int], Captioned]:
    """(identity, number) → what the caption stage hands over."""

    def make(identity: str, number: int) -> Captioned:
        source = f"{identity}/{number}.jpg"
        photo = Photo(photo_key(identity, source, "0" * 64), identity, source, "0" * 64, 1000, licence="CC0-1.0")
        portrait = Portrait(
            key=photo.key,
            identity=identity,
            photo=photo,
            height_px=300,
            width_px=200,
            crop_xyxy_px=(10, 20, 106, 116),
            size_px=SIZE_PX,
            face_xyxy_px=(10.0, 10.5, 30.0, 34.25),
            landmarks_px=((15.0, 18.0), (25.0, 18.0), (20.0, 24.0), (16.0, 29.0), (24.0, 29.0)),
            face_score=0.98765,
            faces_in_photo=1,
            identity_score=0.71239,
            identity_rule="cluster",
            sharpness=123.456,
            colourfulness=0.34567,
            keypoints=None,
            keypoint_scores=None,
            keypoints_reason="no model configured",
            models=("dlib 20.0",),
            image_jpeg=jpeg(number, SIZE_PX),
            face_jpeg=jpeg(number + 1000, 24),
        )
        caption = Caption(
            f"a photo of a person, number {number} — ünïcode", "", "in a red coat", "person", 19, "measured 1"
        )
        return Captioned(portrait, caption)

    return make


@pytest.fixture(scope="session")
def make_bucket(make_row: Callable[[str, int], Captioned]) -> Callable[..., list[Sample]]:
    """(photos per identity, bucket, features of each) → that bucket's samples in order."""

    def make(counts: Iterable[int], bucket: int = 0, features: Mapping[str, bytes] | None = None) -> list[Sample]:
        names = (identity_key(f"Person {n}") for n in itertools.count())
        identities = (identity for identity in names if bucket_of(identity, BUCKETS) == bucket)
        people = zip(counts, identities, strict=False)
        rows = [make_row(who, n * 100 + i) for n, (count, who) in enumerate(people) for i in range(count)]
        samples = [replace(to_sample(row), features=features or {}) for row in rows]
        return sorted(samples, key=lambda sample: (sample.identity, sample.key))

    return make


@pytest.fixture(scope="session")
def write() -> Callable[..., tuple[list[ShardRow], list[IndexRow]]]:
    """Write one bucket, planned as the build plans it."""

    def write_one(
        output: Output, bucket: int, samples: list[Sample], max_bytes: int = 10**9
    ) -> tuple[list[ShardRow], list[IndexRow]]:
        sizes = [(sample.identity, sample_size(sample)) for sample in samples]
        return write_bucket(output, bucket, iter(samples), sizes, max_bytes)

    return write_one


@pytest.fixture(scope="session")
def write_dataset(make_bucket, write) -> Callable[..., tuple[Output, list[Sample]]]:
    """(url, photos per identity of each bucket, max_bytes) → (dataset folder, its samples in order of the tars)."""

    def write_all(
        url: str, counts: Iterable[Iterable[int]] = ((3, 2, 4), (2, 5)), max_bytes: int = 20_000
    ) -> tuple[Output, list[Sample]]:
        output, shards, rows, samples = Output(str(url)), [], [], []
        for bucket, per_identity in enumerate(counts):
            of_bucket = make_bucket(per_identity, bucket)
            new_shards, new_rows = write(output, bucket, of_bucket, max_bytes)
            shards, rows, samples = shards + new_shards, rows + new_rows, samples + of_bucket
        write_index(output, BUCKETS, shards, rows)
        return output, samples

    return write_all


@pytest.fixture
def dataset_folder(tmp_path, write_dataset) -> Iterator[tuple[Output, list[Sample]]]:
    """A dataset of two buckets, five identities, 16 samples, several tars."""
    return write_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for all tests of the session that need one in this process."""
    import ray

    before = dict(os.environ)
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=2,  # in name only: what is tested is who is given how many
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    for name in os.environ.keys() - before.keys():
        del os.environ[name]  # such as RAY_AUTH_MODE: a command that a later test starts is to find none of it
    yield
    ray.shutdown()


@pytest.fixture
def finished_dataset(tmp_path: Path, write_dataset: Callable[..., tuple[Output, list[Sample]]]) -> Output:
    """All that a build leaves of five people, by name `Person 0` …: shards, ledger, identities, settings, working data.

    Four photos more than are kept: a duplicate, one of somebody else, one opted out, one removed. No card.
    """
    output, samples = write_dataset(tmp_path / "dataset")
    nobody = LedgerRow("", "", 0, "", "", "", "", None, *[None] * 4, 0, *[None] * 5, "", *[None] * 7)
    fetched = replace(
        nobody,
        status="kept",
        stage="shards",
        num_bytes=250_000,
        licence="CC BY 4.0",
        page_url="",
        image_url="",
        fetched_at="2026-02-03T04:05:06+00:00",
        user_agent="Personae (+me@example.org)",
    )
    kept = [
        replace(fetched, key=s.key, identity=s.identity, sha256=s.metadata["sha256"], source=f"secret/{s.key}.jpg")
        for s in samples
    ]
    lost = replace(kept[0], status="rejected", num_bytes=9000, page_url="https://example.org/lost", author="Someone")
    rows = [
        *(replace(row, licence="CC BY-NC-SA 2.0") for row in kept[:2]),
        *kept[2:],
        replace(lost, key="1", stage="duplicates", reason="duplicate", duplicate_of=kept[0].key, value=3, threshold=6),
        replace(lost, key="2", stage="verify", reason="not_this_person", value=0.1, threshold=0.4, detail="secret"),
        replace(lost, key="3", status="failed", stage="crawl", reason="opted_out", detail="x-robots-tag: noai"),
        replace(nobody, key="4", status="removed", stage="takedown", reason="person"),
    ]
    names = {identity_key(f"Person {n}"): f"Person {n}" for n in range(100)}
    counts = Counter(sample.identity for sample in samples)
    people = [
        Identity(i, names[i], "actors of the catalogue", "text", bucket_of(i, BUCKETS), n, n, (), 0, False, None, None)
        for i, n in counts.items()
    ]
    _write_rows(output, LEDGER, LedgerRow, rows)
    _write_rows(output, IDENTITIES, Identity, [*people, replace(people[0], identity="0" * 16, name="Nemo", kept=0)])
    run = {"output": output.url, "crawl": CrawlConfig.model_validate({"root": "/home/secret/photos"})}
    write_resolved(BuildRun.model_validate(run), output)
    for name in ("photos/ab/ab12.jpg", "tables/.lock", "features/clip/00000-000.tar", "report.html"):
        output.write(name, b"working data")
    return output


def _write_rows(output: Output, name: str, row_type: type, rows: list[Any]) -> None:
    table = pa.Table.from_pylist([to_record(row) for row in rows], schema=arrow_schema(row_type))
    with output.create(name) as file:
        pq.write_table(table, file)
