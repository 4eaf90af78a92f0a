"""An outside audit: CleanVision looks for exact and near duplicates among the crops that a build kept.

Run: python -m benchmarks.audit [DATASET]. Without a dataset it builds one of the demo's photos, among which every
person has a copy of one photo, byte by byte, and one that was shrunk and encoded again.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from demo.photos import make_photos
from shards.read import Dataset

_RUN = """
output: {folder}/dataset
crawl: {{root: {folder}/photos}}
filter: {{min_side_px: 256, min_face_px: 64, size_px: 256}}
shards: {{buckets: 4}}
engine: {{cpus: 2}}
"""


def duplicates(dataset: str) -> tuple[int, dict[str, int]]:
    """Crops looked at, and of each kind of duplicate how many sets CleanVision finds among them."""
    from cleanvision import Imagelab

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        crops = 0
        for sample in Dataset(dataset).stream():
            Path(folder, f"{sample.key}.jpg").write_bytes(sample.image_jpeg)
            crops += 1
        lab = Imagelab(data_path=folder)
        lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
        return crops, {kind: len(lab.info[kind]["sets"]) for kind in ("exact_duplicates", "near_duplicates")}


def build_with_copies(folder: Path) -> tuple[str, int]:
    """A dataset of the demo's photos and copies of them; returns it and how many copies there were."""
    make_photos(folder / "photos", views=4)
    copies = 0
    for person in sorted((folder / "photos").iterdir()):
        first, second = sorted(person.glob("view-*.jpg"))[:2]
        shutil.copy(first, person / "copied.jpg")
        with Image.open(second) as picture:
            picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(person / "shrunk.jpg", quality=75)
        copies += 2
    (folder / "run.yaml").write_text(_RUN.format(folder=folder))
    command = [sys.executable, "-m", "shards", "build", str(folder / "run.yaml")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return f"{folder}/dataset", copies


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        dataset, planted = (sys.argv[1], None) if sys.argv[1:] else build_with_copies(Path(folder))
        crops, found = duplicates(dataset)
    among = "" if planted is None else f"; {planted} copies were among the photos"
    print(f"CleanVision, {crops:,} kept crops{among}\n")
    print("| | sets found | at most |\n|---|---:|---:|")
    print(f"| exact duplicates | {found['exact_duplicates']} | 0 |")
    print(f"| near duplicates | {found['near_duplicates']} | |")
    return int(found["exact_duplicates"] > 0)


if __name__ == "__main__":
    sys.exit(main())
