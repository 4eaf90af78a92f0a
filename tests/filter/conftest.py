"""Real photos and weights lie outside the repository; tests that need them skip with a reason when they are absent."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.store import Store
from crawl.tables import Entry, Tables
from filter.decide import Verified
from filter.faces import Face
from filter.resolution import measure
from filter.scan import Scanned


@pytest.fixture(scope="session")
def shared():
    """The folder that holds `photos/` and `models/`: `PERSONAE_SHARED`, or `shared` beside the repository."""
    folder = Path(os.environ.get("PERSONAE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    if not (folder / "photos" / "identities.csv").is_file():
        pytest.skip(f"no real photos and weights: {folder} holds no photos/identities.csv (set PERSONAE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def shared_models(shared):
    return shared / "models"


@pytest.fixture(scope="session")
def shared_photos(shared):
    """Rows of identities.csv, with `path` and `box` added."""
    with open(shared / "photos" / "identities.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["path"] = shared / "photos" / "identities" / row["file"]
        row["box"] = tuple(float(v) for v in row["target_box"].split())
    return rows


@pytest.fixture(scope="session")
def astronaut():
    """A public-domain portrait (NASA) that scikit-image carries: 512 × 512, one face of about 100 px."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed: pip install personae[demo]")
    photo = np.asarray(Image.fromarray(data.astronaut()).convert("RGB"))
    photo.flags.writeable = False
    return photo


def face_at(x, y, side=20.0):
    eyes = ((x - 5, y - 4), (x + 5, y - 4))
    landmarks = (*eyes, (x, y), (x - 4, y + 5), (x + 4, y + 5))
    return Face((x - side / 2, y - side / 2, x + side / 2, y + side / 2), landmarks, 0.9)


@pytest.fixture
def verified(tmp_path):
    """Tables and keys of five photos of two faces; the second is verified in four, of which one is broken by now.

    The red of photo n is 40 n.
    """
    output, faces = Output(str(tmp_path)), (face_at(30.0, 40.0), face_at(90.0, 40.0))
    tables, store = Tables(output), Store(output)
    scanned = []
    for number in range(5):
        picture = Image.new("RGB", (120, 160), (number * 40, 80, 120))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        content = buffer.getvalue() if number != 4 else buffer.getvalue()[:60]
        sha256, suffix = store.put(content)
        photo = Photo(f"{number:032x}", "1" * 16, f"{number}.png", sha256, len(content), suffix)
        scanned.append(Scanned(photo, measure(picture), faces, 2))
    tables.write("scan", 0, Scanned, (Entry(s.photo.key, s) for s in scanned), "scanned")
    verdicts = [Entry(s.photo.key, Verified(1, 0.8, ("cluster",))) for s in scanned]
    verdicts[2] = Entry(scanned[2].photo.key, None, Rejection("verify", "not_this_person"))
    tables.write("verify", 0, Verified, verdicts, "verified")
    return tables, [s.photo.key for s in scanned]
