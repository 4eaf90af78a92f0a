"""`python -m benchmarks.filter_overhead [PHOTOS]`: what the filter costs beyond its models and decoding.

One process, one thread, models loaded beforehand. Wall time of scan, verify and crop against the time inside
the detector, the embedder and the image decoder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filter.cut
import filter.scan
from crawl.collect import CrawlStage
from crawl.config import CrawlConfig
from crawl.output import Output
from filter.config import FilterConfig, FilterRun
from filter.cut import CropStage
from filter.decide import VerifyStage
from filter.scan import Examiner, ScanStage

_PARTS = ("decode", "detect", "embed", "resize and encode")


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = sys.argv[1] if len(sys.argv) > 1 else _default_photos()
    print(
        "| models | photos | wall s | decode | detect | embed | resize and encode | rest | wall / (models + decode) |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for models in ("embedded", "open"):
        print(_measure(root, models))


def _default_photos() -> str:
    shared = Path(os.environ.get("PERSONAE_SHARED", Path(__file__).parents[2] / "shared"))
    if (shared / "models").is_dir():
        os.environ.setdefault("PERSONAE_CACHE", str(shared / "models"))
    return str(shared / "photos" / "identities")


def _measure(root: str, models: str) -> str:
    spent: dict[str, float] = defaultdict(float)
    config = FilterConfig(models=models, min_side_px=200, min_face_px=64, size_px=512)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        run, output = FilterRun(output=folder, crawl=CrawlConfig(root=root), filter=config), Output(folder)
        crawl = CrawlStage(run, output)
        scan, verify, crop = ScanStage(run, output), VerifyStage(run, output), CropStage(run, output, {})
        scan._examiner = examiner = Examiner(config)
        originals = filter.scan.decode, filter.cut.decode, filter.cut.encode
        filter.scan.decode = filter.cut.decode = _timed(originals[0], spent, "decode")
        filter.cut.encode = _timed(originals[2], spent, "resize and encode")
        examiner._detector.detect = _timed(examiner._detector.detect, spent, "detect")  # type: ignore[method-assign]
        examiner._embedder.embed = _timed(examiner._embedder.embed, spent, "embed")  # type: ignore[method-assign]
        photos = 0
        for bucket in range(run.shards.buckets):
            crawl.run(bucket, "f", lambda stage, n: None)
        start = time.perf_counter()
        for bucket in range(run.shards.buckets):
            for stage in (scan, verify, crop):
                stage.run(bucket, "f", lambda stage, n: None)
        wall = time.perf_counter() - start
        photos = sum(crawl.size(b) for b in range(run.shards.buckets))
        filter.scan.decode, filter.cut.decode, filter.cut.encode = originals
    ideal = spent["decode"] + spent["detect"] + spent["embed"]
    shares = " | ".join(f"{spent[p] / wall:.1%}" for p in _PARTS)
    rest = 1 - sum(spent[p] for p in _PARTS) / wall
    return f"| {models} | {photos} | {wall:.1f} | {shares} | {rest:.1%} | {wall / ideal:.3f} |"


def _timed(function: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        spent[part] += time.perf_counter() - start
        return result

    return timed


if __name__ == "__main__":
    main()
