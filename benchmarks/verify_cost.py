"""What verification costs: `python -m benchmarks.verify_cost [--identities 10000] [--faces 100]`.

Synthetic faces with MobileFaceNet's cosines (two photos of one person: 0.69), 20 % of each name's photos a second
person, 10 % strangers. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from filter.config import VerifyConfig
from filter.faces import Embeddings
from filter.models import EMBEDDERS
from filter.names import same_person
from filter.verify import Candidates, IdentityFinding, verify_identity

DIMENSIONS = 128
SAME_COSINE = 0.69
WORKERS = 2


@dataclass(frozen=True)
class Job:
    """Names to make up and verify in one process."""

    first: int
    identities: int
    faces: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=10_000)
    parser.add_argument("--faces", type=int, default=100)
    arguments = parser.parse_args()
    print("| | wall | peak memory of a process |")
    print("|---|---|---|")
    began = time.perf_counter()
    findings = verified(arguments.identities, arguments.faces)
    took = time.perf_counter() - began
    name = f"{arguments.identities:,} names × {arguments.faces} faces, every rule, {WORKERS} processes"
    print(f"| {name} | {took:.0f} s | {children_mib():.0f} MiB |", flush=True)
    began = time.perf_counter()
    found = same_person(findings, EMBEDDERS["open"].same_person_cosine)
    took = time.perf_counter() - began
    print(f"| cross-name check of these, {len(found)} found | {took:.1f} s | |", flush=True)
    began = time.perf_counter()
    verified(1, 10_000)
    print(f"| 1 name × 10,000 faces | {time.perf_counter() - began:.1f} s | {children_mib():.0f} MiB |")


def verified(identities: int, faces: int) -> list[IdentityFinding]:
    """Findings of so many made-up names."""
    step = max(1, min(50, identities))
    jobs = [Job(first, min(step, identities - first), faces) for first in range(0, identities, step)]
    with ProcessPoolExecutor(WORKERS) as pool:
        return [finding for chunk in pool.map(work, jobs) for finding in chunk]


def work(job: Job) -> list[IdentityFinding]:
    """Verify the names of a job, each from its own seed."""
    seeds = range(job.first, job.first + job.identities)
    return [verify_name(f"{seed:016x}", job.faces, np.random.default_rng(seed)) for seed in seeds]


def verify_name(name: str, faces: int, rng: np.random.Generator) -> IdentityFinding:
    """One made-up name."""
    second, strangers = round(0.2 * faces), round(0.1 * faces)
    rows = [person(rng, faces - second - strangers), person(rng, second), *(person(rng, 1) for _ in range(strangers))]
    photos = [Candidates(f"{i:05d}", row[None], (100.0,), (1.0,)) for i, row in enumerate(np.concatenate(rows))]
    return verify_identity(name, photos, EMBEDDERS["open"], VerifyConfig()).finding


def person(rng: np.random.Generator, n: int) -> Embeddings:
    """n faces of one person."""
    centre, noise = unit(rng.normal(size=(1, DIMENSIONS))), unit(rng.normal(size=(n, DIMENSIONS)))
    return unit(math.sqrt(SAME_COSINE) * centre + math.sqrt(1 - SAME_COSINE) * noise)


def unit(rows: np.ndarray) -> Embeddings:
    unit_rows: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit_rows


def children_mib() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
