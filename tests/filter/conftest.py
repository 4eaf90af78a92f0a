"""Real photos and weights lie outside the repository; tests that need them skip with a reason when they are absent."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
