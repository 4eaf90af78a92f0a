"""The one dataset that every method of `benchmarks.learn` sees: shards of the shared real photos, with features.

Nothing that shows a person is kept: the folder is the caller's, and temporary.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

from benchmarks.shared_photos import default_folder, known_photos

FEATURES = (
    "face",
    "clip_last",
    "clip_penultimate",
    "clip_pooled",
    "clip_scales",
    "text_general",
    "text_background",
    "text_body",
)


def dataset_at(folder: Path, wide: bool) -> str:
    """The dataset made in this folder, unless it is there already; says how many keypoints can be seen in it."""
    made = folder / "dataset"
    if not made.exists():
        make_dataset(str(folder), framing="body" if wide else "portrait")
        print(f"{folder.name}: photos by visible keypoints: {visible_keypoints(str(made))}", file=sys.stderr)
    return str(made)


def visible_keypoints(dataset: str) -> dict[int, int]:
    """Keypoints that can be seen in a training crop → photos."""
    from filter.keypoints import VISIBLE
    from shards.read import Dataset

    scores = [s.metadata["keypoint_scores"] or () for _, samples in Dataset(dataset).groups() for s in samples]
    return dict(sorted(Counter(sum(score >= VISIBLE for score in each) for each in scores).items()))


def make_dataset(folder: str, min_face_share: float = 0.4, framing: str = "portrait") -> str:
    """Shards of everybody with three shared photos or more: faces close up, 64 px; what frozen encoders say beside.

    With keypoints. `framing` body: as much of the photo as fits. Copies and near-duplicates are left out: a copy of
    a training photo is not held out.
    """
    from crawl.config import CrawlConfig, ShardLayout
    from filter.config import FilterConfig
    from shards.build import build
    from shards.config import BuildRun, EngineConfig

    _copy_photos(Path(folder) / "photos")
    run = BuildRun(
        output=f"{folder}/dataset",
        crawl=CrawlConfig.model_validate({"root": f"{folder}/photos"}),
        filter=FilterConfig(
            models="open", min_side_px=120, min_face_px=48, size_px=64, face_size_px=64, min_face_share=min_face_share,
            framing=framing, pose="blazepose", verify={"min_photos": 3},
        ),
        shards=ShardLayout(buckets=2),
        engine=EngineConfig(cpus=1),
    )  # fmt: skip
    build(run)
    _encode(run.output)
    return run.output


def _copy_photos(folder: Path) -> None:
    for photo in known_photos(default_folder(), "open"):
        (folder / photo.key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(default_folder() / "photos" / "identities" / photo.key, folder / photo.key)


def _encode(dataset: str) -> None:
    from shards.encoders.config import EncodeRun
    from shards.features.encode import encode

    run = {"data": {"dataset": dataset}, "base": {"face": "open"}, "encode": {"features": FEATURES}}
    for _ in encode(EncodeRun.model_validate(run), Silent()):
        pass


class Silent:
    """Progress that nobody is told of."""

    def expect(self, stage: str, photos: int, /) -> None:
        pass

    def tick(self, stage: str, photos: int, /) -> None:
        pass
