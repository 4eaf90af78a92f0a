"""`python -m benchmarks.filter_overhead`: what the filter costs beyond its models and decoding.

One process, one thread, models loaded beforehand, 1-megapixel photos, default settings. Wall time of scan,
verify and crop against the time inside the detector, the embedder and the image decoder.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from benchmarks.shared_photos import default_folder
from crawl.collect import CrawlStage
from crawl.config import CrawlConfig, ShardLayout
from crawl.output import Output
from crawl.stage import Stage
from demo.photos import make_photos
from filter import cut as cut_module
from filter import scan as scan_module
from filter.config import FilterConfig, FilterRun
from filter.cut import CropStage
from filter.decide import VerifyStage
from filter.scan import Examiner, ScanStage

_PARTS = ("decode", "detect", "embed", "resize and encode")
_SIDE_PX = 1024


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if (default_folder() / "models").is_dir():
        os.environ.setdefault("PERSONAE_CACHE", str(default_folder() / "models"))
    print("| models | photos | kept | wall s | decode | detect | embed | resize and encode | rest | wall / ideal |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder) / "photos", views=16, side_px=_SIDE_PX)
        for models in ("embedded", "open"):
            print(_measure(f"{folder}/photos", f"{folder}/{models}", models))


def _measure(root: str, folder: str, models: Literal["embedded", "open"]) -> str:
    spent: dict[str, float] = defaultdict(float)
    config = FilterConfig(models=models)
    layout = ShardLayout(buckets=1)  # 136 photos stand for one bucket of a real build
    run = FilterRun(output=folder, crawl=CrawlConfig.model_validate({"root": root}), filter=config, shards=layout)
    output = Output(folder)
    crawl = CrawlStage(run, output)
    scan, verify, crop = ScanStage(run, output), VerifyStage(run, output), CropStage(run, output, {})
    scan._examiner = _watched(Examiner(config), spent)
    originals = scan_module.decode, cut_module.decode, cut_module.encode
    scan_module.decode = cut_module.decode = _timed(originals[0], spent, "decode")
    cut_module.encode = _timed(originals[2], spent, "resize and encode")
    _run([crawl], run.shards.buckets)
    start = time.perf_counter()
    _run([scan, verify, crop], run.shards.buckets)
    wall = time.perf_counter() - start
    scan_module.decode, cut_module.decode, cut_module.encode = originals
    photos = sum(crawl.size(b) for b in range(run.shards.buckets))
    kept = sum(r is None for b in range(run.shards.buckets) for r in crop._tables.rejections("crop", b).values())
    ideal = spent["decode"] + spent["detect"] + spent["embed"]
    shares = " | ".join(f"{spent[p] / wall:.1%}" for p in _PARTS)
    rest = 1 - sum(spent[p] for p in _PARTS) / wall
    return f"| {models} | {photos} | {kept} | {wall:.1f} | {shares} | {rest:.1%} | {wall / ideal:.3f} |"


def _run(stages: list[Stage], buckets: int) -> None:
    for bucket in range(buckets):
        for stage in stages:
            stage.run(bucket, "f", lambda stage, photos: None)


def _watched(examiner: Examiner, spent: dict[str, float]) -> Examiner:
    examiner._detector.detect = _timed(examiner._detector.detect, spent, "detect")  # type: ignore[method-assign]
    examiner._embedder.embed = _timed(examiner._embedder.embed, spent, "embed")  # type: ignore[method-assign]
    return examiner


def _timed(function: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        spent[part] += time.perf_counter() - start
        return result

    return timed


if __name__ == "__main__":
    main()
