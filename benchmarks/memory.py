"""`python -m benchmarks.memory [ROWS …]`: peak memory of the build's driver and workers, by number of photos.

Photos are generated: small patterns, one in ten the view of a real face, so that every stage has work.
Prints a Markdown table; the last column compares with the first row.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from demo.photos import make_photos

_RUN = """
output: {folder}/out
crawl: {{root: {folder}/photos}}
filter: {{min_side_px: 64, min_face_px: 40, size_px: 128, face_size_px: 112, near_duplicate_bits: 0}}
shards: {{buckets: 16}}
engine: {{cpus: 2}}
"""
_FACE_EVERY = 10
_PHOTOS_A_PERSON = 100


def main() -> None:
    counts = [int(a) for a in sys.argv[1:]] or [2_000, 20_000]
    print("| photos | seconds | driver peak MB | largest worker peak MB | driver | worker |")
    print("|---:|---:|---:|---:|---:|---:|")
    first: tuple[float, float] | None = None
    for count in counts:
        seconds, driver, worker = _measure(count)
        first = first or (driver, worker)
        ratios = f"{driver / first[0]:.2f}× | {worker / first[1]:.2f}×"
        print(f"| {count} | {seconds:.0f} | {driver:.0f} | {worker:.0f} | {ratios} |", flush=True)


def _measure(count: int) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder), count)
        (Path(folder) / "run.yaml").write_text(_RUN.format(folder=folder))
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "shards", "build", f"{folder}/run.yaml"], stdout=subprocess.DEVNULL
        )
        driver = worker = 0.0
        while process.poll() is None:
            driver = max(driver, _peak_mb(process.pid))
            worker = max([worker, *(_peak_mb(pid) for pid in _workers(process.pid))])
            time.sleep(0.2)
        if process.returncode:
            raise SystemExit(f"the build of {count} photos failed with exit code {process.returncode}")
        return time.monotonic() - start, driver, worker


def _make(folder: Path, count: int) -> None:
    make_photos(folder / "faces", views=6)
    faces = [Image.open(f).resize((160, 160)) for f in sorted((folder / "faces").rglob("view-*.jpg"))]
    rng = np.random.default_rng(0)
    for number in range(count):
        person = folder / "photos" / f"person-{number // _PHOTOS_A_PERSON:05d}"
        person.mkdir(parents=True, exist_ok=True)
        if number % _FACE_EVERY == 0:
            views = 6 * (number // _PHOTOS_A_PERSON % (len(faces) // 6))
            pixels = np.asarray(faces[views + number // _FACE_EVERY % 6]).copy()
            pixels[:8, :8] = rng.integers(0, 256, 3)
            pixels = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
        else:
            pattern = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            pixels = np.asarray(Image.fromarray(pattern).resize((160, 160), Image.Resampling.BICUBIC))
        Image.fromarray(pixels).save(person / f"{number:06d}.jpg", quality=90)


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _workers(root: int) -> list[int]:
    """Ray's worker processes below `root`."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    return [pid for pid in parents if _below(pid, root, parents) and _is_worker(pid)]


def _below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != root:
        pid = parents[pid]
    return pid == root


def _is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


if __name__ == "__main__":
    main()
