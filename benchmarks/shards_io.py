"""Writing and reading shards beside webdataset: same samples, same files, same run.

    python -m benchmarks.shards_io

Prints a Markdown table: medians over interleaved rounds, wall clock and CPU time. webdataset is given its
JSON ready made and is not asked to decode; ours makes the JSON, takes both checksums, indexes and fsyncs when
writing, and verifies, checks every header and parses the JSON when reading. "Checked before" is every epoch
after the first: all checks but the checksum. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import webdataset

from crawl.output import Output
from crawl.photo import identity_key, photo_key
from shards.format.index import write_index
from shards.format.sample import Sample
from shards.format.tar import sample_size
from shards.format.write import write_bucket
from shards.read import Dataset

PHOTOS_A_PERSON = 50
METADATA = {
    "general": "a photo of a person who stands in front of a wall and looks at the camera, taken from the waist up",
    "background": "a light wall with a window on the left",
    "body": "wears a dark coat over a white shirt, arms at the sides",
    **{f"number_{n}": n / 7 for n in range(8)},
    **{f"text_{n}": "https://example.org/a/path/to/a/photo.jpg" for n in range(12)},
    **{f"box_{n}": [10, 20, 500, 510] for n in range(4)},
    "landmarks_px": [[101.25, 202.5]] * 5,
    "keypoints": [[101.25, 202.5]] * 12,
    "keypoint_scores": [0.9876] * 12,
}
"""As many fields and as much text as `shards.format.sample.to_sample` gives."""
Timing = tuple[float, float]
"""Seconds of wall clock and of CPU."""
Name = tuple[str, str]
"""What is done, and by what."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--kb", type=int, default=186, help="size of a sample's members, kB")
    parser.add_argument("--shard-mb", type=int, default=100, help="largest tar; 1000 makes one of the default samples")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to write, default: the system's folder for temporary files")
    arguments = parser.parse_args()
    samples = make_samples(arguments.samples, arguments.kb * 1000)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        jobs = make_jobs(samples, folder, arguments.shard_mb * 10**6)
        timings: dict[Name, list[Timing]] = {name: [] for name in jobs}
        for _ in range(arguments.rounds):
            for name, job in jobs.items():
                timings[name].append(timed(job))
    print_table(timings, len(samples), arguments)


def make_samples(count: int, num_bytes: int) -> list[Sample]:
    """Random bytes for pictures, JSON of the usual size, in the order of a bucket."""
    rng = random.Random(0)
    samples = []
    for number in range(count):
        identity = identity_key(f"person {number // PHOTOS_A_PERSON}")
        key = photo_key(identity, str(number), "")
        metadata = {**METADATA, "key": key, "identity": identity}
        samples.append(
            Sample(key, identity, rng.randbytes(num_bytes * 7 // 8), rng.randbytes(num_bytes // 8), metadata)
        )
    return sorted(samples, key=lambda sample: (sample.identity, sample.key))


def make_jobs(samples: list[Sample], folder: str, shard_bytes: int) -> dict[Name, Callable[[], None]]:
    """What is timed, in order of the table; those that write come first."""
    ready = [{"__key__": s.key, **{n.partition(".")[2]: c for n, c in s.members()}} for s in samples]
    keys = [sample.key for sample in samples]
    random.Random(1).shuffle(keys)

    def write_ours() -> None:
        output = Output(folder)
        sizes = [(sample.identity, sample_size(sample)) for sample in samples]
        write_index(output, 1, *write_bucket(output, 0, samples, sizes, shard_bytes))

    def write_theirs(post: Callable[[str], None] | None) -> None:
        pattern = f"{folder}/%06d.tar"
        with webdataset.ShardWriter(pattern, maxsize=shard_bytes, post=post, encoder=False, verbose=0) as writer:
            for sample in ready:
                writer.write(sample)

    def read_ours(verify: str) -> None:
        with Dataset(folder, verify) as dataset:  # type: ignore[arg-type]
            assert sum(1 for _ in dataset.stream()) == len(samples)

    def read_theirs() -> None:
        tars = sorted(str(path) for path in Path(folder, "shards").glob("*.tar"))
        assert sum(1 for _ in webdataset.WebDataset(tars, shardshuffle=False)) == len(samples)

    def read_at_random(verify: str) -> None:
        with Dataset(folder, verify) as dataset:  # type: ignore[arg-type]
            for key in keys:
                dataset.sample(key)

    return {
        ("write", "webdataset"): lambda: write_theirs(None),
        ("write", "webdataset, then fsync"): lambda: write_theirs(fsync),
        ("write", "Personae"): write_ours,
        ("read in order", "webdataset"): read_theirs,
        ("read in order", "Personae"): lambda: read_ours("first"),
        ("read in order", "Personae, by SHA-256"): lambda: read_ours("sha256"),
        ("read in order", "Personae, checked before"): lambda: read_ours("never"),
        ("read at random", "Personae"): lambda: read_at_random("first"),
        ("read at random", "Personae, checked before"): lambda: read_at_random("never"),
    }


def fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def timed(job: Callable[[], None]) -> Timing:
    os.sync()
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


def print_table(timings: dict[Name, list[Timing]], count: int, arguments: argparse.Namespace) -> None:
    print(
        f"{count} samples of {arguments.kb} kB, tars of ≤ {arguments.shard_mb} MB, medians of {arguments.rounds} rounds"
    )
    print()
    print("| job | by | samples/s | samples/CPU-s | × webdataset, wall | × webdataset, CPU |")
    print("|---|---|---:|---:|---:|---:|")
    speeds = {name: tuple(count / statistics.median(s) for s in zip(*t, strict=True)) for name, t in timings.items()}
    for (job, tool), ours in speeds.items():
        theirs = speeds.get((job, "webdataset"), ())
        ratios = [f"{mine / peer:.2f}" for mine, peer in zip(ours, theirs, strict=False)] or ["", ""]
        print(f"| {job} | {tool} | {ours[0]:,.0f} | {ours[1]:,.0f} | {ratios[0]} | {ratios[1]} |")


if __name__ == "__main__":
    main()
