"""The steps of a build, in two halves: the cross-name check between them needs every identity's centre.

And what the second half's workers need besides a core: captions by a model, and ViTPose, want a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping

from caption.stage import CaptionStage
from crawl.collect import CrawlStage
from crawl.errors import InputError
from crawl.output import Output
from crawl.stage import BucketWork, Stage
from crawl.tables import Tables
from filter.classify import classify_stages
from filter.cut import CropStage
from filter.decide import VerifyStage
from filter.names import Finding
from filter.pose import pose_stages
from filter.scan import ScanStage
from shards.config import BuildRun
from shards.steps.pack import PackStage


def first_half(run: BuildRun, output: Output) -> list[Stage]:
    """Files → verified identities."""
    return [CrawlStage(run, output), ScanStage(run, output), VerifyStage(run, output)]


def second_half(run: BuildRun, output: Output, doubles: Mapping[str, Finding]) -> list[Stage]:
    """Verified identities → shards."""
    asked = [*pose_stages(run, output), *classify_stages(run, output)]
    return [*asked, CropStage(run, output, doubles), CaptionStage(run, output), PackStage(run, output)]


def second_half_gpus(run: BuildRun, there: float) -> float:
    """GPUs for each worker of the second half, of those `there` are. Raises InputError for more than there are."""
    wanted = run.engine.gpus_per_worker
    if wanted is None:
        of_backend = {"qwen": min(1.0, there), "vllm": float(run.caption.vllm.tensor_parallel)}
        of_filter = min(1.0, there) if run.filter.pose == "vitpose" or run.filter.classifiers else 0.0
        wanted = max(of_backend.get(run.caption.backend, 0.0), of_filter)
    if wanted > there:
        key = "engine.gpus_per_worker" if run.engine.gpus_per_worker else f"caption.backend: {run.caption.backend}"
        raise InputError(f"{key}: a worker needs {wanted:g} GPUs, Ray sees {there:g}")
    return wanted


def first_work(run: BuildRun) -> BucketWork:
    """The first half, ready to run in a process of its own."""
    output = Output(run.output)
    return BucketWork(first_half(run, output), Tables(output))


def second_work(run: BuildRun, doubles: Mapping[str, Finding]) -> BucketWork:
    """The second half, ready to run in a process of its own."""
    output = Output(run.output)
    return BucketWork(second_half(run, output, doubles), Tables(output))
