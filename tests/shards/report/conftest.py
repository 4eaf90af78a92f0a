"""A small dataset with everything a report can show, all of its texts hostile; and a real browser to look at it."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crawl.config import dump
from crawl.output import Output
from crawl.photo import Photo, Rejection, bucket_of, photo_key
from crawl.tables import Entry, Tables, arrow_schema, to_record
from crawl.timing import Timing, note
from filter.decide import IDENTITIES, Verified
from filter.faces import Face
from filter.resolution import Measures
from filter.scan import Scanned
from filter.verify import IdentityFinding, RuleCount
from shards.beside.identities import Identity
from shards.beside.ledger import LedgerRow
from shards.config import BuildRun
from shards.format.index import IndexRow, write_index
from shards.format.sample import to_sample

ARTEFACTS = Path(__file__).parents[3] / "build" / "artefacts"
BUCKETS = 2
ADA, STAR, NOBODY, GONE, STRAY = "a" * 16, "b" * 16, "c" * 16, "d" * 16, ""
NAMES = {
    ADA: "Ada <script>alert('name')</script> \"quoted\" & 'single'",
    STAR: "نجمة ‮ exe.gpj",
    NOBODY: "</script><img src=x onerror=alert(1)>",
}
CAPTION = "a photo of a person </script><script>alert('caption')</script> <!-- ${1} {{ 7*7 }} ‮ “سلام”"
PAGE_URL = "javascript:alert('page')"
IMAGE_URL = 'https://example.org/a.jpg?"><script>alert(2)</script>'
LICENCE = "CC0 <b onmouseover=alert(3)>"
KEYPOINTS = tuple((6.0 + 3 * n, 20.0 + 2 * n) for n in range(12))
SCORES = (0.9, 0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="session")
def hostile_dataset(tmp_path_factory, make_row, write) -> Output:
    """17 photos: kept, rejected with and without original, a duplicate, failed; two removed, one stray."""
    output = Output(str(tmp_path_factory.mktemp("report") / 'data "set"'))
    kept = [_kept(output, make_row, who, n) for who, count in ((ADA, 5), (STAR, 3)) for n in range(count)]
    rows = [row for row, _ in kept]
    rows += _rejected(output)
    shards, places = [], []
    for bucket in range(BUCKETS):
        own = [s for row, s in kept if row.bucket == bucket]
        if own:
            new_shards, new_places = write(output, bucket, sorted(own, key=lambda s: (s.identity, s.key)))
            shards, places = shards + new_shards, places + new_places
    write_index(output, BUCKETS, shards, places)
    _write_whole(output, rows)
    _write_tables(output, rows, places)
    return output


@pytest.fixture(scope="session")
def hostile() -> SimpleNamespace:
    """The identities of that dataset, and its texts."""
    return SimpleNamespace(
        ada=ADA,
        star=STAR,
        nobody=NOBODY,
        names=NAMES,
        caption=CAPTION,
        page_url=PAGE_URL,
        image_url=IMAGE_URL,
        licence=LICENCE,
    )


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where screenshots are kept."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, headless. Of one module: while playwright is there, an event loop runs in this thread."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """(url, width, theme) → a page that is ready; `.said` by its console, `.asked` of the network."""
    contexts = []

    def open_one(url: str, width: int = 1440, theme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (page.said.append(f"alert: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_one
    for context in contexts:
        context.close()


def _kept(output: Output, make_row, who: str, number: int):
    row = make_row(who, number)
    key = photo_key(who, f"kept {number}", "")
    caption = replace(row.caption, general=CAPTION, background="" if number else "grey")
    portrait = replace(
        row.portrait,
        key=key,
        photo=replace(row.portrait.photo, key=key, page_url=PAGE_URL, image_url=IMAGE_URL, licence=LICENCE),
        identity_score=0.5 + number / 20,
        keypoints=KEYPOINTS if number % 2 else None,
        keypoint_scores=SCORES if number % 2 else None,
        keypoints_reason=None if number % 2 else "no_body",
    )
    ledger = _ledger(who, key, "kept", _original(output, number), page_url=PAGE_URL, image_url=IMAGE_URL)
    return ledger, to_sample(replace(row, portrait=portrait, caption=caption))


def _rejected(output: Output) -> list[LedgerRow]:
    def row(who, number, stage, reason, sha256, value=None, threshold=None, status="rejected", **more):
        key = photo_key(who, f"{reason} {number}", "")
        given = {"stage": stage, "reason": reason, "value": value, "threshold": threshold, **more}
        return _ledger(who, key, status, sha256, **given)

    there, absent = _original(output, 50), "e" * 64
    return [
        row(ADA, 0, "verify", "not_this_person", there, 0.21, 0.4),
        row(ADA, 1, "verify", "not_this_person", absent, 0.35, 0.4),
        row(ADA, 2, "duplicates", "duplicate", there, 3.0, 6.0, duplicate_of=photo_key(ADA, "kept 0", "")),
        row(ADA, 3, "crawl", "http_status", "", 404.0, status="failed"),
        row(ADA, 4, "scan", "crash", there),
        row(NOBODY, 0, "verify", "no_majority", "../../../etc/passwd", 0.3, 0.4, detail="<script>alert(4)</script>"),
        row(GONE, 0, "takedown", "taken_down", "", status="removed"),
        row(GONE, 1, "takedown", "taken_down", "", status="removed"),
        row(STRAY, 0, "crawl", "no_folder", "", status="failed"),
    ]


def _ledger(who: str, key: str, status: str, sha256: str, **more) -> LedgerRow:
    names = [name for name in LedgerRow.__dataclass_fields__ if name not in ("key", "identity", "bucket", "status")]
    empty = dict.fromkeys(names) | {
        "source": f"{who}/<b>{key[:4]}.jpg",
        "sha256": sha256,
        "num_bytes": 10,
        "signals": "",
    }
    empty |= {"stage": "shards", "licence": LICENCE} | more
    return LedgerRow(key=key, identity=who, bucket=bucket_of(who, BUCKETS), status=status, **empty)


def _original(output: Output, number: int) -> str:
    """A photo in `photos/`: coloured stripes with a square where the face is said to be."""
    y, x = np.mgrid[:200, :160]
    pixels = np.stack([(x * number) % 256, y, (x + y) % 256], axis=-1).astype(np.uint8)
    pixels[40:100, 50:110] = (240, 200, 170)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    output.write(f"photos/{sha256[:2]}/{sha256}.jpg", buffer.getvalue())
    return sha256


def _write_whole(output: Output, rows: list[LedgerRow]) -> None:
    schema = arrow_schema(LedgerRow)
    with output.create("ledger.parquet") as file, pq.ParquetWriter(file, schema) as writer:
        for bucket in range(BUCKETS):
            own = sorted((r for r in rows if r.bucket == bucket), key=lambda r: (r.identity, r.source, r.key))
            writer.write_batch(pa.RecordBatch.from_pylist([to_record(r) for r in own], schema=schema))
    people = [
        _identity(ADA, 10, 5, second_person_photos=2),
        _identity(STAR, 3, 3, same_as=ADA, same_as_cosine=0.93),
        _identity(NOBODY, 1, 0, no_majority=True),
    ]
    with output.create("identities.parquet") as file:
        table = pa.Table.from_pylist([to_record(p) for p in people], schema=arrow_schema(Identity))
        pq.write_table(table, file)
    settings = {"crawl": {"root": "photos"}, "filter": {"verify": {"threshold": 0.4}}, "shards": {"buckets": BUCKETS}}
    run = BuildRun.model_validate({"output": output.url, **settings})
    output.write("config.resolved.yaml", f"format: 1\n{dump(run)}".encode())


def _identity(who: str, photos: int, kept: int, **found) -> Identity:
    given = {"second_person_photos": 0, "no_majority": False, "same_as": None, "same_as_cosine": None} | found
    licences = (f"{LICENCE}: {kept}",) if kept else ()
    return Identity(who, NAMES[who], "<i>basis</i>", "text", bucket_of(who, BUCKETS), photos, kept, licences, **given)


def _write_tables(output: Output, rows: list[LedgerRow], places: list[IndexRow]) -> None:
    """What the working tables know of the photo that was not this person: two faces, the second the nearer one."""
    tables, ada = Tables(output), bucket_of(ADA, BUCKETS)
    stranger = next(row for row in rows if row.reason == "not_this_person" and row.value == 0.21)
    centre = np.array([1, 0, 0], np.float32)
    far, near = np.array([0.1, 0.995, 0], np.float32), np.array([0.21, 0.9777, 0], np.float32)
    marks = ((60.0, 60.0), (80.0, 60.0), (70.0, 70.0), (62.0, 80.0), (78.0, 80.0))
    faces = (Face((0.0, 0.0, 30.0, 30.0), marks, 2.0, far), Face((50.0, 40.0, 110.0, 100.0), marks, 1.0, near))
    photo = Photo(stranger.key, ADA, stranger.source, stranger.sha256, 10)
    scanned = Scanned(photo, Measures(200, 160, 50.0, 0.3, 1, 2), faces, 2)
    tables.write("scan", ada, Scanned, [Entry(stranger.key, scanned)], "f")
    rejection = Rejection("verify", "not_this_person", 0.21, 0.4)
    kept = [Entry(r.key, Verified(0, 0.55, ("cluster",))) for r in rows if r.identity == ADA and r.status == "kept"]
    tables.write("verify", ada, Verified, [*kept, Entry(stranger.key, None, rejection)], "f")
    rules = (RuleCount("cluster", 5), RuleCount("hdbscan", None))
    finding = IdentityFinding(ADA, "cluster", 7, 5, centre, 0.4, 7, 5, 2, None, rules)
    tables.write(IDENTITIES, ada, IdentityFinding, [Entry(ADA, finding)], "f")
    for bucket in range(BUCKETS):
        own = [p for p in places if p.shard.startswith(f"{bucket:05d}")]
        tables.write("shards", bucket, IndexRow, [Entry(p.key, p) for p in own], "f")
        note(output, bucket, "scan", Timing(8, 2.0))
