"""What the workers of the second half need besides a core."""

import pytest

from crawl.errors import InputError
from shards.config import BuildRun
from shards.steps.stages import second_half_gpus


def run_of(backend, tensor_parallel=1, pose="none", **engine):
    caption = {"backend": backend, "model": "m", "endpoint": {"url": "http://127.0.0.1/v1"}}
    caption["vllm"] = {"tensor_parallel": tensor_parallel}
    return BuildRun.model_validate(
        {"output": "o", "crawl": {"root": "."}, "filter": {"pose": pose}, "caption": caption, "engine": engine}
    )


@pytest.mark.parametrize(
    ("run", "there", "gpus"),
    [
        (run_of("measured"), 8, 0),
        (run_of("endpoint"), 8, 0),
        (run_of("qwen"), 8, 1),
        (run_of("qwen"), 0, 0),
        (run_of("qwen", gpus_per_worker=0.5), 1, 0.5),
        (run_of("qwen", gpus_per_worker=0), 8, 0),
        (run_of("vllm", 4), 8, 4),
        (run_of("measured", pose="vitpose"), 8, 1),
        (run_of("measured", pose="vitpose"), 0, 0),
        (run_of("vllm", 4, pose="vitpose"), 8, 4),
        (run_of("measured", pose="blazepose"), 8, 0),
    ],
)
def test_captions_by_a_model_and_vitpose_take_a_gpu(run, there, gpus):
    assert second_half_gpus(run, there) == gpus


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (run_of("vllm", 4), "caption.backend: vllm: a worker needs 4 GPUs, Ray sees 2"),
        (run_of("qwen", gpus_per_worker=3), "engine.gpus_per_worker: a worker needs 3 GPUs, Ray sees 2"),
    ],
)
def test_more_than_there_are_is_one_line(run, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        second_half_gpus(run, 2)
