"""`python -m benchmarks.filter_overhead`: what the filter costs beyond its models and decoding, and where.

One process, one thread, models loaded beforehand, 1-megapixel photos, default settings. Wall time of scan,
verify and crop against the time inside the detector, the embedder and the image decoder; the same of CPU
time, which other work on the machine disturbs less. Medians of rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

from benchmarks.shared_photos import default_folder
from crawl.collect import CrawlStage
from crawl.config import CrawlConfig, ShardLayout
from crawl.output import Output
from crawl.stage import Stage
from demo.photos import make_photos
from filter import cut, scan
from filter.config import FilterConfig, FilterRun
from filter.cut import CropStage
from filter.decide import VerifyStage
from filter.scan import Examiner, ScanStage

_IDEAL = ("decode", "detect", "embed")
_PARTS = (*_IDEAL, "measure", "resize", "encode JPEG", "verify")
_SIDE_PX = 1024
Times = dict[str, "np.ndarray[Any, Any]"]
"""Part → seconds of wall clock and of CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if (default_folder() / "models").is_dir():
        os.environ.setdefault("PERSONAE_CACHE", str(default_folder() / "models"))
    print(f"| models | photos | kept | wall s | {' | '.join(_PARTS)} | tables and rest | wall / ideal | CPU / ideal |")
    print(f"|---|---:|---:|---:|{'---:|' * (len(_PARTS) + 3)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder) / "photos", views=16, side_px=_SIDE_PX)
        for models in ("embedded", "open"):
            print(_row(f"{folder}/photos", f"{folder}/{models}", models, rounds), flush=True)


def _row(root: str, folder: str, models: Literal["embedded", "open"], rounds: int) -> str:
    config = FilterConfig(models=models)
    layout = ShardLayout(buckets=1)  # 136 photos stand for one bucket of a real build
    run = FilterRun(output=folder, crawl=CrawlConfig.model_validate({"root": root}), filter=config, shards=layout)
    output = Output(folder)
    crawl, examiner = CrawlStage(run, output), Examiner(config)
    _run(crawl)
    found = [_measure(run, output, examiner) for _ in range(rounds)]
    kept = sum(reason is None for reason in CropStage(run, output, {})._tables.rejections("crop", 0).values())
    wall = statistics.median(times["all"][0] for times in found)
    shares = [statistics.median(times[part][0] / times["all"][0] for times in found) for part in _PARTS]
    percents = " | ".join(f"{share:.1%}" for share in (*shares, 1 - sum(shares)))
    ratios = (statistics.median(times["all"][n] / sum(times[p][n] for p in _IDEAL) for times in found) for n in (0, 1))
    return (
        f"| {models} | {crawl.size(0)} | {kept} | {wall:.1f} | {percents} | {' | '.join(f'{r:.3f}' for r in ratios)} |"
    )


def _measure(run: FilterRun, output: Output, examiner: Examiner) -> Times:
    """One round, on an examiner whose models are loaded and warm after the first."""
    spent: Times = defaultdict(lambda: np.zeros(2))
    scanning = ScanStage(run, output)
    scanning._examiner = examiner
    watched = [
        (scan, "decode_picture", "decode"),
        (scan, "pixels", "decode"),
        (cut, "decode_picture", "decode"),
        (examiner._detector, "detect", "detect"),
        (examiner._embedder, "embed", "embed"),
        (scan, "measure", "measure"),
        (cut, "resize", "resize"),
        (cut, "encode", "encode JPEG"),
    ]
    with contextlib.ExitStack() as patches:
        for owner, name, part in watched:
            patches.enter_context(patch.object(owner, name, _timed(getattr(owner, name), spent, part)))
        with _watch(spent, "all"):
            _run(scanning)
            with _watch(spent, "verify"):
                _run(VerifyStage(run, output))
            _run(CropStage(run, output, {}))
    return spent


def _run(stage: Stage) -> None:
    stage.run(0, "f", lambda stage, photos: None)


def _timed(function: Callable[..., Any], spent: Times, part: str) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        with _watch(spent, part):
            return function(*arguments)

    return timed


@contextlib.contextmanager
def _watch(spent: Times, part: str) -> Iterator[None]:
    start = np.array([time.perf_counter(), time.process_time()])
    yield
    spent[part] = spent[part] + np.array([time.perf_counter(), time.process_time()]) - start


if __name__ == "__main__":
    main()
