"""What the loop costs beside a bare forward, backward and optimiser step; what cached features save.

    python -m benchmarks.train_overhead

One process on the CPU: IP-Adapter on the tiny base, on shards of noise, in interleaved rounds. *Bare* repeats one
batch that lies in memory; *cached* is `train.loop` over shards whose features are encoded, prefetch and all; *online*
is the same without features. CPU time is of all threads: what the prefetching thread does counts. Prints Markdown.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from benchmarks.learn_data import Silent
from crawl.output import Output
from crawl.photo import bucket_of, identity_key, photo_key
from shards.encoders.config import EncodeRun
from shards.features.encode import encode
from shards.format.index import write_index
from shards.format.sample import Sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from train.config import LossConfig, TrainRun
from train.data.batch import Batch
from train.loop import Loop
from train.processes import Processes
from train.run import from_shards
from train.start import start
from train.step import draw_step

_PEOPLE, _PHOTOS, _PHOTO_PX, _BUCKETS = 8, 6, 256, 2
_FEATURES = ("latents", "clip_last", "clip_penultimate", "clip_pooled", "text_general")


@dataclass(frozen=True, slots=True)
class Timing:
    """Of some steps."""

    wall_s: float
    cpu_s: float
    wait_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="a round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size-px", type=int, default=64)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _write_people(folder)
        _encode(folder, parsed.size_px)
        work = {
            "bare": _bare(_loop(folder, parsed, "cached"), parsed.steps),
            "cached": _whole(_loop(folder, parsed, "cached"), parsed.steps),
            "online": _whole(_loop(folder, parsed, "online"), parsed.steps),
        }
        rounds = [{name: one() for name, one in work.items()} for _ in range(parsed.rounds + 1)][1:]
    _print(rounds, parsed.steps * parsed.batch)


def _print(rounds: list[dict[str, Timing]], samples: int) -> None:
    print("| loop | samples/s | samples/CPU-s | × bare, wall | × bare, CPU | data wait |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in rounds[0]:
        mine, bare = [r[name] for r in rounds], [r["bare"] for r in rounds]
        speed = samples / statistics.median(t.wall_s for t in mine)
        per_cpu = samples / statistics.median(t.cpu_s for t in mine)
        wall = statistics.median(b.wall_s / t.wall_s for b, t in zip(bare, mine, strict=True))
        cpu = statistics.median(b.cpu_s / t.cpu_s for b, t in zip(bare, mine, strict=True))
        wait = sum(t.wait_s for t in mine) / sum(t.wall_s for t in mine)
        print(f"| {name} | {speed:.1f} | {per_cpu:.1f} | {wall:.3f} | {cpu:.3f} | {wait:.1%} |")
    saved = statistics.median(r["online"].cpu_s / r["cached"].cpu_s for r in rounds)
    print(f"\ncached / online: {saved:.2f} × the samples a CPU-second")


def _loop(folder: str, parsed: argparse.Namespace, features: str) -> Loop:
    run = TrainRun.model_validate(
        {
            "output": f"{folder}/run",
            "data": {"dataset": folder, "size_px": parsed.size_px, "features": features},
            "adapter": {"kind": "ip_adapter"},
            "loop": {"steps": 10**6, "batch_size": parsed.batch},
        }
    )
    return start(run, Processes(), from_shards).loop


def _bare(loop: Loop, steps: int) -> Callable[[], Timing]:
    parameters = list(loop.trained.names.values())
    adam = torch.optim.AdamW(parameters, 1e-4, fused=True)
    batch = loop.source.batch(0, range(loop.run.loop.batch_size), loop.run.loop.batch_size)

    def one() -> Timing:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            adam.zero_grad()
            _loss(loop, batch).backward()
            adam.step()
        return Timing(time.perf_counter() - wall, time.process_time() - cpu)

    return one


def _loss(loop: Loop, batch: Batch) -> torch.Tensor:
    terms = loop.adapter.losses(draw_step(loop.base, batch, loop.draws, LossConfig()))
    return terms["diffusion"].per_sample.mean()


def _whole(loop: Loop, steps: int) -> Callable[[], Timing]:
    done = 0

    def one() -> Timing:
        nonlocal done
        cpu, records = time.process_time(), loop.steps(done, done + steps + 1, lambda: False)
        next(records)  # it waits for the thread's first batch; the thread's work for it counts all the same
        wall = time.perf_counter()
        wait_s = sum(record.wait_s for record in records)
        done += steps + 1
        return Timing(time.perf_counter() - wall, (time.process_time() - cpu) * steps / (steps + 1), wait_s)

    return one


def _write_people(folder: str) -> None:
    output, shards, rows = Output(folder), [], []
    people = [[_sample(person, number) for number in range(_PHOTOS)] for person in range(_PEOPLE)]
    for bucket in range(_BUCKETS):
        mine = [s for photos in people for s in photos if bucket_of(s.identity, _BUCKETS) == bucket]
        mine.sort(key=lambda sample: (sample.identity, sample.key))
        sizes = [(sample.identity, sample_size(sample)) for sample in mine]
        new_shards, new_rows = write_bucket(output, bucket, mine, sizes, 64 << 20)
        shards, rows = shards + new_shards, rows + new_rows
    write_index(output, _BUCKETS, shards, rows)


def _sample(person: int, number: int) -> Sample:
    identity = identity_key(f"Person {person}")
    key = photo_key(identity, f"{number}.jpg", "")
    jpeg = _jpeg(np.random.default_rng([person, number]))
    metadata = {
        "key": key, "identity": identity, "general": f"a photo of a woman in a coat, number {number}",
        "background": "a light wall", "body": "standing", "class_word": "woman", "trigger_position": 18,
        "original_size": [_PHOTO_PX, _PHOTO_PX], "crop_top_left": [0, 0], "size_px": _PHOTO_PX,
        "face_xyxy_px": [90.0, 60.0, 160.0, 150.0],
        "landmarks_px": [[110, 90], [140, 90], [125, 110], [112, 130], [138, 130]],
        "keypoints": None, "keypoint_scores": None, "keypoints_reason": "",
    }  # fmt: skip
    return Sample(key, identity, jpeg, jpeg, metadata)


def _jpeg(rng: np.random.Generator) -> bytes:
    small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((_PHOTO_PX, _PHOTO_PX)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _encode(folder: str, size_px: int) -> None:
    run = EncodeRun.model_validate(
        {"data": {"dataset": folder, "size_px": size_px}, "encode": {"features": _FEATURES, "dtype": "float32"}}
    )
    for _ in encode(run, Silent()):
        pass


if __name__ == "__main__":
    main()
