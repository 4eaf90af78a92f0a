"""How fast `python -m shards verify` reads, beside `sha256sum` of the same files in the same run.

    python -m benchmarks.verify_speed

Makes a dataset of real JPEGs and JSON of the usual size (1.2 GB by default), then times, in interleaved rounds,
`sha256sum` over its tars and the verification as the command does it, in this process and in several, with pictures
decoded and not. Prints a Markdown table of medians. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from caption.captioned import Caption, Captioned
from crawl.output import Output
from crawl.photo import Photo, bucket_of, identity_key, photo_key
from filter.portrait import Portrait
from shards.format.index import write_index
from shards.format.sample import Sample, to_sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from shards.verify.dataset import verify_dataset

PHOTOS_A_PERSON = 40
BUCKETS = 8
Timing = tuple[float, float]
"""Seconds of wall clock and of CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1200, help="of shards")
    parser.add_argument("--shard-mb", type=int, default=128, help="largest tar")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--decoded-rounds", type=int, default=1, help="rounds in which pictures are decoded too")
    parser.add_argument("--folder", help="where to write, default: the system's folder for temporary files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        samples = make_dataset(folder, arguments.mb * 10**6, arguments.shard_mb * 10**6)
        tars = sorted(Path(folder, "shards").glob("*.tar"))
        num_bytes = sum(tar.stat().st_size for tar in tars)
        timings = measure(folder, tars, arguments)
    print(f"{samples} samples, {num_bytes / 1e6:,.0f} MB in {len(tars)} tars, medians of {arguments.rounds} rounds")
    print_table(timings, num_bytes)


def make_dataset(folder: str, num_bytes: int, shard_bytes: int) -> int:
    """Write it; returns the number of samples."""
    pictures = [(picture(seed, 512), picture(seed + 100, 256)) for seed in range(24)]
    output, shards, rows, number = Output(folder), [], [], 0
    each = sample_size(sample_of("0" * 16, 0, pictures[0]))
    people = [identity_key(f"person {n}") for n in range(num_bytes // each // PHOTOS_A_PERSON)]
    for bucket in range(BUCKETS):
        here = sorted(identity for identity in people if bucket_of(identity, BUCKETS) == bucket)
        samples = []
        for identity in here:
            mine = [sample_of(identity, n, pictures[(number + n) % len(pictures)]) for n in range(PHOTOS_A_PERSON)]
            samples += sorted(mine, key=lambda sample: sample.key)
            number += PHOTOS_A_PERSON
        sizes = [(sample.identity, sample_size(sample)) for sample in samples]
        new_shards, new_rows = write_bucket(output, bucket, samples, sizes, shard_bytes)
        shards, rows = shards + new_shards, rows + new_rows
    write_index(output, BUCKETS, shards, rows)
    return number


def picture(seed: int, side_px: int) -> bytes:
    """A JPEG with about as much detail as a photo has."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((side_px, side_px), 3)
    noise = Image.fromarray(rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8))
    mixed = Image.blend(coarse, noise.filter(ImageFilter.GaussianBlur(1)), 0.35)
    buffer = io.BytesIO()
    mixed.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def sample_of(identity: str, number: int, pictures: tuple[bytes, bytes]) -> Sample:
    url = f"https://photos.example.org/{identity}/{number:06d}.jpg"
    key = photo_key(identity, url, "")
    general = "a photo of a woman who stands in front of a wall and looks at the camera, taken from the waist up"
    portrait = Portrait(
        key=key,
        identity=identity,
        photo=Photo(key, identity, url, "0" * 64, 10**6, page_url=url, image_url=url, licence="CC-BY-4.0", author="A"),
        height_px=1600,
        width_px=1200,
        crop_xyxy_px=(10, 20, 1034, 1044),
        size_px=512,
        face_xyxy_px=(110.5, 120.25, 310.0, 390.75),
        landmarks_px=((150.0, 180.0), (250.0, 180.0), (200.0, 240.0), (160.0, 290.0), (240.0, 290.0)),
        face_score=0.98765,
        faces_in_photo=1,
        identity_score=0.71239,
        identity_rule="cluster",
        sharpness=123.456,
        colourfulness=0.34567,
        keypoints=((101.25, 202.5),) * 12,
        keypoint_scores=(0.9876,) * 12,
        keypoints_reason=None,
        models=("detector 1.0", "embedder 1.0"),
        image_jpeg=pictures[0],
        face_jpeg=pictures[1],
    )
    caption = Caption(general, "a light wall", "wears a dark coat over a white shirt", "woman", 18, "measured 1")
    return to_sample(Captioned(portrait, caption))


def measure(folder: str, tars: list[Path], arguments: argparse.Namespace) -> dict[str, list[Timing]]:
    output = Output(folder)

    def verify(workers: int, decode: bool) -> None:
        assert verify_dataset(output, decode=decode, workers=workers) == []

    jobs: dict[str, Callable[[], object]] = {
        "sha256sum": lambda: subprocess.run(["sha256sum", *map(str, tars)], check=True, stdout=subprocess.DEVNULL),
        "verify, one process": lambda: verify(1, False),
        f"verify, {arguments.workers} processes": lambda: verify(arguments.workers, False),
        f"verify --decode, {arguments.workers} processes": lambda: verify(arguments.workers, True),
    }
    timings: dict[str, list[Timing]] = {name: [] for name in jobs}
    for number in range(arguments.rounds):
        for name, job in jobs.items():
            if "--decode" not in name or number < arguments.decoded_rounds:
                wall, cpu = time.perf_counter(), cpu_s()
                job()
                timings[name].append((time.perf_counter() - wall, cpu_s() - cpu))
    return timings


def cpu_s() -> float:
    """Of this process and of those it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def print_table(timings: dict[str, list[Timing]], num_bytes: int) -> None:
    medians = {name: [statistics.median(s) for s in zip(*t, strict=True)] for name, t in timings.items() if t}
    base_wall, base_cpu = medians["sha256sum"]
    print("\n| what | s | CPU s | MB/s | × sha256sum, wall | × sha256sum, CPU |\n|---|---:|---:|---:|---:|---:|")
    for name, (wall, cpu) in medians.items():
        speed = num_bytes / wall / 1e6
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {speed:,.0f} | {base_wall / wall:.2f} | {base_cpu / cpu:.2f} |")


if __name__ == "__main__":
    main()
