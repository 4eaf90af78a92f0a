"""`python -m benchmarks.crawl_speed [--photos N] [--venv FOLDER] [--memory N …]`: photos per CPU-second, side by side.

This crawler, Scrapy's ImagesPipeline and img2dataset without re-encoding fetch the same photos from the same
loopback server, politeness off. Counted is the CPU time of the tool's whole process tree, not the server's.
img2dataset gets an environment of its own in FOLDER; without one its row is left out. Prints Markdown.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

HOSTS = tuple(f"127.0.0.{n}" for n in range(1, 9))
"""Virtual hosts: loopback addresses of one server."""
PHOTO_BYTES = 190_000
SMALL_BYTES = 20_000
_START_UP_PHOTOS = len(HOSTS)
_KINDS = 32

OURS = """
import sys
from crawl.fetching.fetch import FetchSettings, by_host, fetch_partitions
from crawl.output import Output
from crawl.fetching.target import Target
with open(sys.argv[1]) as file:
    targets = by_host(Target("nobody", line.strip()) for line in file)
settings = FetchSettings(interval_s=0, allowed_networks=("127.0.0.0/8",))
fetch_partitions(targets, settings, Output(sys.argv[2]), lambda stage, photos: None)
"""

SCRAPY = """
import sys
import scrapy
from scrapy.crawler import CrawlerProcess

class Photos(scrapy.Spider):
    name = "photos"
    async def start(self):
        with open(sys.argv[1]) as file:
            for line in file:
                yield {"image_urls": [line.strip()]}

process = CrawlerProcess({
    "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1}, "IMAGES_STORE": sys.argv[2],
    "LOG_LEVEL": "ERROR", "TELNETCONSOLE_ENABLED": False,
})
process.crawl(Photos)
process.start()
"""

IMG2DATASET = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], output_format="files", disable_all_reencoding=True,
             resize_mode="no", extract_exif=False, compute_hash="sha256", processes_count=1, thread_count=32)
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """How to run one crawler, and why it cannot be."""

    name: str
    code: str
    python: str = sys.executable
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What one run cost."""

    stored: int
    wall_s: float
    cpu_s: float
    process_mb: float
    """Peak of the largest process."""
    tree_mb: float
    """Peak of all its processes together."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl_speed", description=__doc__)
    parser.add_argument("--photos", type=int, default=2_000, help=f"photos of {PHOTO_BYTES:,} bytes")
    parser.add_argument("--venv", type=Path, help="folder for img2dataset's own environment, made when missing")
    parser.add_argument(
        "--memory", type=int, nargs="*", help=f"also our memory at so many photos of {SMALL_BYTES:,} bytes"
    )
    arguments = parser.parse_args()
    tools = [Tool("this crawler", OURS), Tool("Scrapy ImagesPipeline", SCRAPY), _img2dataset(arguments.venv)]
    with _server(PHOTO_BYTES) as port:
        _compare(tools, port, arguments.photos)
    if arguments.memory:
        with _server(SMALL_BYTES) as port:
            _memory(tools[0], port, arguments.memory)


def _compare(tools: list[Tool], port: int, photos: int) -> None:
    columns = "tool stored wall_s CPU_s of_it_start-up photos/CPU-s without_start-up largest_process_MB all_MB"
    print(f"| {' | '.join(column.replace('_', ' ') for column in columns.split())} |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for tool in tools:
        if tool.missing is not None:
            print(f"| {tool.name} | not run: {tool.missing} | | | | | | | |", flush=True)
            continue
        start_up = _run(tool, port, _START_UP_PHOTOS).cpu_s
        run = _run(tool, port, photos)
        net = run.stored / max(run.cpu_s - start_up, 1e-3)
        print(
            f"| {tool.name} | {run.stored} | {run.wall_s:.1f} | {run.cpu_s:.2f} | {start_up:.2f} "
            f"| {run.stored / run.cpu_s:.0f} | {net:.0f} | {run.process_mb:.0f} | {run.tree_mb:.0f} |",
            flush=True,
        )


def _memory(tool: Tool, port: int, counts: list[int]) -> None:
    print("\n| photos | stored | largest process MB | all MB |\n|---:|---:|---:|---:|")
    for count in counts:
        run = _run(tool, port, count)
        print(f"| {count} | {run.stored} | {run.process_mb:.0f} | {run.tree_mb:.0f} |", flush=True)


def _run(tool: Tool, port: int, photos: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        urls, output = Path(folder) / "urls.txt", Path(folder) / "out"
        urls.write_text("".join(f"http://{HOSTS[n % len(HOSTS)]}:{port}/{n}.jpg\n" for n in range(photos)))
        before, start = os.times(), time.monotonic()
        process = subprocess.Popen(
            [tool.python, "-c", tool.code, str(urls), str(output)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"WANDB_MODE": "disabled", "NO_ALBUMENTATIONS_UPDATE": "1"},
        )
        largest = together = 0.0
        while process.poll() is None:
            sizes = _sizes_mb(process.pid)
            largest, together = max([largest, *sizes]), max(together, sum(sizes))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(f"{tool.name} failed with exit code {process.returncode}")
        wall_s, after = time.monotonic() - start, os.times()
        cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
        return Run(sum(1 for _ in output.rglob("*.jpg")), wall_s, cpu_s, largest, together)


def _img2dataset(venv: Path | None) -> Tool:
    name = "img2dataset, no re-encoding"
    if venv is None:
        return Tool(name, IMG2DATASET, missing="no --venv given")
    python = venv / "bin" / "python"
    if (
        subprocess.run([python, "-c", "import img2dataset"], capture_output=True).returncode
        if python.exists()
        else True
    ):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True)
        installed = subprocess.run([python, "-m", "pip", "install", "--quiet", "img2dataset"], capture_output=True)
        if installed.returncode:
            return Tool(name, IMG2DATASET, missing="pip could not install it")
    return Tool(name, IMG2DATASET, str(python))


def _sizes_mb(root: int) -> list[float]:
    """Resident memory of a process and all below it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return [size for pid in tree if (size := _size_mb(pid)) is not None]


def _size_mb(pid: int) -> float | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return None


@contextmanager
def _server(num_bytes: int) -> Iterator[int]:
    """A server in a process of its own; yields its port."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, num_bytes), daemon=True)
    process.start()
    try:
        yield int(ours.recv())
    finally:
        process.kill()
        process.join()


def _serve(parent: Connection, num_bytes: int) -> None:
    listener = socket.create_server(("0.0.0.0", 0), backlog=256)
    photos = [_photo(n, num_bytes) for n in range(_KINDS)]
    parent.send(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection, photos), daemon=True).start()


def _answer(connection: socket.socket, photos: list[bytes]) -> None:
    with connection, connection.makefile("rb") as lines:
        while request := lines.readline():
            headers = b"".join(iter(lines.readline, b"\r\n"))
            number = request.split()[1].strip(b"/").partition(b".")[0]
            if number.isdigit():
                comment = b"%012d" % int(number)
                photo = photos[int(number) % len(photos)]
                body = photo[:2] + b"\xff\xfe\0\x0e" + comment + photo[2:]
                head = b"200 OK\r\nContent-Type: image/jpeg"
            else:
                head, body = b"404 Not Found", b""
            try:
                connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (head, len(body)) + body)
            except OSError:
                return
            if b"connection: close" in headers.lower():
                return


def _photo(seed: int, num_bytes: int) -> bytes:
    """A JPEG of about so many bytes, soft shapes with grain; padded to the byte with a comment at its end."""
    rng = np.random.default_rng(seed)
    side = 1000 if num_bytes > 100_000 else 300
    soft = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    pixels = np.clip(np.asarray(soft) + rng.normal(0, 5, (side, side, 3)), 0, 255).astype(np.uint8)
    for quality in range(95, 5, -5):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        if file.tell() <= num_bytes:
            return file.getvalue() + bytes(num_bytes - file.tell())
    raise AssertionError("grain that does not fit at any quality")


if __name__ == "__main__":
    main()
