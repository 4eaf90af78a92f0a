"""The report of 1,000 photos: how long it takes to make, how large it is, how soon a browser shows it.

Run: python -m benchmarks.report. The photos are views of one picture that scikit-image carries, as large as real ones
(crops of 512 px, originals of 1280 × 960); ledger, tables and shards are written by the package's own writers.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance

from caption.captioned import Caption, Captioned
from crawl.output import Output
from crawl.photo import Photo, bucket_of, identity_key, photo_key
from crawl.tables import Entry, Tables, arrow_schema, to_record
from demo.photos import carried
from filter.decide import IDENTITIES
from filter.faces import Face
from filter.portrait import Portrait
from filter.resolution import Measures
from filter.scan import Scanned
from filter.verify import IdentityFinding
from shards.beside.identities import Identity
from shards.beside.ledger import LedgerRow
from shards.format.index import write_index
from shards.format.sample import Sample, to_sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from shards.report.write import write_report

PEOPLE, KEPT, REJECTED, COPIES = 40, 19, 4, 2
"""A person's; 1,000 photos in all."""
BUCKETS = 4
LIMITS = {"made in, s": 20.0, "MB": 30.0, "first paint, s": 1.0}
_RUNS = 5


def make_dataset(url: str, people: int = PEOPLE) -> int:
    """Write a dataset with `people` people; returns its photos."""
    output, rng = Output(url), np.random.default_rng(0)
    picture = Image.open(carried("scikit-image", "skimage/data/astronaut.png")).convert("RGB")
    names = {identity_key(f"Person {n}"): f"Person {n:03d}" for n in range(people)}
    rows: list[LedgerRow] = []
    samples: dict[int, list[Sample]] = {bucket: [] for bucket in range(BUCKETS)}
    scans: dict[int, list[Entry[Scanned]]] = {bucket: [] for bucket in range(BUCKETS)}
    for who in names:
        bucket = bucket_of(who, BUCKETS)
        for number in range(KEPT):
            samples[bucket].append(_sample(who, number, picture, rng))
            rows.append(_row(who, f"kept {number}", "", "kept", "shards"))
        for number in range(REJECTED):
            row = _row(who, f"other {number}", _original(output, picture, rng), "rejected", "verify", "not_this_person")
            scans[bucket].append(Entry(row.key, _scanned(row)))
            rows.append(row)
        for number in range(COPIES):
            copy = _row(who, f"copy {number}", _original(output, picture, rng), "rejected", "duplicates", "duplicate")
            rows.append(copy)
    _write(output, names, rows, samples, scans)
    return len(rows)


def first_paints(page: Path, runs: int = _RUNS) -> list[float] | None:
    """Seconds until a fresh headless Chromium has painted something of the file; None without one."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if path is None:
        return None
    paints = []
    with sync_playwright() as playwright:
        for _ in range(runs):
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_selector(".plot[data-drawn]")
            entry = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            paints.append(tab.evaluate(entry) / 1000)
            browser.close()
    return paints


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        photos = make_dataset(f"{folder}/dataset")
        began, worked = time.perf_counter(), time.process_time()
        path, num_bytes = write_report(f"{folder}/dataset")
        found = {"made in, s": time.perf_counter() - began, "MB": num_bytes / 1e6}
        worked = time.process_time() - worked
        paints = first_paints(Path(path))
    if paints:
        found["first paint, s"] = statistics.median(paints)
    print(f"Report of {photos:,} photos of {PEOPLE} people\n")
    print("| | measured | at most |\n|---|---:|---:|")
    for what, value in found.items():
        print(f"| {what} | {value:.2f} | {LIMITS[what]:g} |")
    print(f"\nSeconds of one core in making it: {worked:.1f}")
    if paints:
        print(f"First paint, {_RUNS} fresh browsers: {min(paints):.2f} – {max(paints):.2f} s")
    else:
        print("First paint: not measured, there is no Chromium or no playwright")
    return int(any(value > LIMITS[what] for what, value in found.items()))


def _view(picture: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    left, top = rng.integers(0, 120, 2)
    side = int(rng.integers(300, 390))
    view = picture.crop((left, top, left + side, top + side)).resize(size, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(view).enhance(rng.uniform(0.7, 1.3))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _original(output: Output, picture: Image.Image, rng: np.random.Generator) -> str:
    content = _jpeg(_view(picture, rng, (1280, 960)), 88)
    sha256 = hashlib.sha256(content).hexdigest()
    output.write(f"photos/{sha256[:2]}/{sha256}.jpg", content, sync_folder=False)
    return sha256


def _sample(who: str, number: int, picture: Image.Image, rng: np.random.Generator) -> Sample:
    key = photo_key(who, f"kept {number}", "")
    photo = Photo(key, who, f"{who}/kept {number}.jpg", "0" * 64, 300_000, licence="CC0-1.0")
    crop = _view(picture, rng, (512, 512))
    angles = rng.uniform(100, 400, (12, 2))
    eye = float(rng.uniform(180, 220))
    portrait = Portrait(
        key, who, photo, 960, 1280, (100, 50, 900, 850), 512, (150.0, 100.0, 330.0, 300.0),
        ((eye, 180.0), (280.0, 180.0), (240.0, 220.0), (205.0, 260.0), (275.0, 260.0)),
        0.99, 1, float(rng.uniform(0.45, 0.9)), "cluster", float(rng.uniform(20, 300)), 0.3,
        tuple((float(x), float(y)) for x, y in angles), tuple(float(s) for s in rng.uniform(0.1, 1, 12)), None,
        ("benchmark",), _jpeg(crop, 95), _jpeg(crop.resize((256, 256)), 95),
    )  # fmt: skip
    general = "a warm-toned photo of a person, with one face in the picture, seen from the front"
    caption = Caption(general, "red background", "close-up, facing the camera, in orange", "person", 30, "measured-1")
    return to_sample(Captioned(portrait, caption))


def _row(who: str, what: str, sha256: str, status: str, stage: str, reason: str | None = None) -> LedgerRow:
    given = dict.fromkeys(LedgerRow.__dataclass_fields__) | {"signals": "", "num_bytes": 300_000, "licence": "CC0-1.0"}
    numbers = {"not_this_person": (0.22, 0.4), "duplicate": (3.0, 6.0)}.get(reason or "", (None, None))
    copied = photo_key(who, f"other {what[-1]}", "") if reason == "duplicate" else None
    given |= {"key": photo_key(who, what, ""), "identity": who, "bucket": bucket_of(who, BUCKETS), "status": status}
    given |= {"stage": stage, "reason": reason, "value": numbers[0], "threshold": numbers[1], "duplicate_of": copied}
    url = f"https://example.org/{who}/{what.replace(' ', '-')}.jpg"
    return LedgerRow(**{**given, "source": url, "image_url": url, "sha256": sha256})  # type: ignore[arg-type]


def _scanned(row: LedgerRow) -> Scanned:
    landmarks = ((500.0, 300.0), (600.0, 300.0), (550.0, 360.0), (510.0, 420.0), (590.0, 420.0))
    face = Face((400.0, 200.0, 700.0, 500.0), landmarks, 1.0, np.full(128, 128**-0.5, np.float32))
    photo = Photo(row.key, row.identity, row.source, row.sha256, row.num_bytes)
    return Scanned(photo, Measures(960, 1280, 50.0, 0.3, 1, 2), (face,), 1)


def _write(
    output: Output,
    names: dict[str, str],
    rows: list[LedgerRow],
    samples: dict[int, list[Sample]],
    scans: dict[int, list[Entry[Scanned]]],
) -> None:
    tables, schema = Tables(output), arrow_schema(LedgerRow)
    written = []
    with output.create("ledger.parquet") as file, pq.ParquetWriter(file, schema) as ledger:
        for bucket in range(BUCKETS):
            own = sorted((r for r in rows if r.bucket == bucket), key=lambda r: (r.identity, r.source))
            ledger.write_batch(pa.RecordBatch.from_pylist([to_record(r) for r in own], schema=schema))
            ordered = sorted(samples[bucket], key=lambda s: (s.identity, s.key))
            sizes = [(s.identity, sample_size(s)) for s in ordered]
            written.append(write_bucket(output, bucket, iter(ordered), sizes, 10**9))
            tables.write("scan", bucket, Scanned, scans[bucket], "benchmark")
            found = [_finding(who) for who in names if bucket_of(who, BUCKETS) == bucket]
            tables.write(IDENTITIES, bucket, IdentityFinding, [Entry(f.identity, f) for f in found], "benchmark")
    write_index(
        output, BUCKETS, [s for shards, _ in written for s in shards], [i for _, index in written for i in index]
    )
    people = [
        Identity(
            who, name, "made", "benchmark", bucket_of(who, BUCKETS), 25, KEPT, ("CC0-1.0: 19",), 0, False, None, None
        )
        for who, name in names.items()
    ]
    with output.create("identities.parquet") as file:
        pq.write_table(pa.Table.from_pylist([to_record(p) for p in people], schema=arrow_schema(Identity)), file)


def _finding(who: str) -> IdentityFinding:
    centre = np.full(128, 128**-0.5, np.float32)
    return IdentityFinding(who, "cluster", 23, KEPT, centre, 0.4, 23, KEPT, 0, None, ())


if __name__ == "__main__":
    sys.exit(main())
