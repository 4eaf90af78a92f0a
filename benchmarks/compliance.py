"""`python -m benchmarks.compliance [--img2dataset PYTHON]`: what each crawler does where a site says no.

One loopback site, counted at the site: Personae, Scrapy as it comes, and img2dataset from an environment of its
own (`--img2dataset`: its interpreter; it pins old packages). Prints Markdown: hits, and gaps in seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

_PATHS = {
    "plain": "/plain.jpg",
    "robots.txt forbids": "/forbidden/photo.jpg",
    "X-Robots-Tag: noai": "/noai.jpg",
    "noai in the meta of the page that shows it": "/shown-by-noai.jpg",
    "the same page without it": "/shown.jpg",
    "tdm-reservation: 1": "/tdm.jpg",
    "redirect to a private address": "/to-private.jpg",
    "429, Retry-After: 3": "/busy.jpg",
}
_PAGES = {"/page/ada/": "/shown-by-noai.jpg", "/page/bob/": "/shown.jpg"}
"""Pages, each with a photo; the first says noai. A crawler of addresses never sees them."""
_META = {"/page/ada/": '<meta name="robots" content="noai">'}
_SCRAPY = """
import sys, scrapy
from scrapy.crawler import CrawlerProcess
class Photos(scrapy.Spider):
    name = "photos"
    start_urls = sys.argv[2:]
    def parse(self, response):
        if not response.url.endswith("/"):
            yield {"image_urls": [response.url]}
            return
        for image in response.css("a.thumb::attr(href)").getall():
            yield {"image_urls": [response.urljoin(image)]}
process = CrawlerProcess({"ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1}, "IMAGES_STORE": sys.argv[1],
                          "LOG_ENABLED": False, "RETRY_TIMES": 1})
process.crawl(Photos)
process.start()
"""
_IMG2DATASET = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[2], output_folder=sys.argv[1] + "/out", processes_count=1, thread_count=4,
             resize_mode="no", retries=1, enable_wandb=False)
"""


class Site:
    """The site and, on another loopback address, what must not be reached from it."""

    def __init__(self) -> None:
        self.hits: list[tuple[str, float]] = []
        self.private_hits = 0

    @contextmanager
    def running(self) -> Iterator[str]:
        site = self

        class Public(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.hits.append((self.path, time.monotonic()))
                site.answer(self, private.server_port)

            def log_message(self, *arguments: object) -> None:
                pass

        class Private(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.private_hits += 1
                self.send_error(404)

            def log_message(self, *arguments: object) -> None:
                pass

        with (
            ThreadingHTTPServer(("127.0.0.2", 0), Private) as private,
            ThreadingHTTPServer(("127.0.0.1", 0), Public) as public,
        ):
            for server in (private, public):
                threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"127.0.0.1:{public.server_port}"
            for server in (private, public):
                server.shutdown()

    def answer(self, to: BaseHTTPRequestHandler, private_port: int) -> None:
        path = to.path.split("?")[0]
        if path == "/robots.txt":
            _send(to, 200, b"User-agent: *\nDisallow: /forbidden/\n", {"Content-Type": "text/plain"})
        elif path == _PATHS["redirect to a private address"]:
            _send(to, 302, b"", {"Location": f"http://127.0.0.2:{private_port}/secret"})
        elif path == _PATHS["429, Retry-After: 3"] and self.count(path) == 1:
            _send(to, 429, b"", {"Retry-After": "3"})
        elif path == "/pages/":
            links = "".join(f'<a class="person" href="{page}">{page.split("/")[2]}</a>' for page in _PAGES)
            _send(to, 200, links.encode(), {"Content-Type": "text/html"})
        elif path in _PAGES:
            page = f"<html><head>{_META.get(path, '')}</head><a class='thumb' href='{_PAGES[path]}'>photo</a></html>"
            _send(to, 200, page.encode(), {"Content-Type": "text/html"})
        elif path in _PATHS.values():
            headers = {"/noai.jpg": {"X-Robots-Tag": "noai"}, "/tdm.jpg": {"tdm-reservation": "1"}}.get(path, {})
            _send(to, 200, _photo(_width_px(path)), {"Content-Type": "image/jpeg", **headers})
        else:
            _send(to, 404, b"", {})

    def count(self, path: str) -> int:
        return sum(hit == path for hit, _ in self.hits)

    def gap_s(self, path: str) -> float | None:
        times = [at for hit, at in self.hits if hit == path]
        return times[1] - times[0] if len(times) > 1 else None

    def least_gap_s(self) -> float:
        times = sorted(at for hit, at in self.hits if hit != "/robots.txt")
        return min(b - a for a, b in pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img2dataset", metavar="PYTHON", help="interpreter of an environment with img2dataset")
    peers: dict[str, Callable[[str, Path], None]] = {"Personae": _personae, "Scrapy": _scrapy}
    interpreter = parser.parse_args().img2dataset
    if interpreter:
        peers["img2dataset"] = lambda host, folder: _img2dataset(interpreter, host, folder)
    results = {name: _measure(crawl) for name, crawl in peers.items()}
    print("| what the site says |", " | ".join(results), "|")
    print("|---|", "---|" * len(results), sep="")
    for row in next(iter(results.values())):
        print(f"| {row} |", " | ".join(result[row] for result in results.values()), "|")


def _measure(crawl: Callable[[str, Path], None]) -> dict[str, str]:
    site = Site()
    with tempfile.TemporaryDirectory() as folder, site.running() as host:
        crawl(host, Path(folder))
        kept = _widths_px(Path(folder))
    rows = {what: f"{site.count(path)} hits, {_kept(path, kept)}" for what, path in _PATHS.items()}
    rows["redirect to a private address"] = f"{site.private_hits} hits there"
    busy = site.gap_s(_PATHS["429, Retry-After: 3"])
    rows["429, Retry-After: 3"] = "not asked again" if busy is None else f"asked again after {busy:.1f} s"
    rows["least gap between two requests"] = f"{site.least_gap_s():.2f} s"
    return rows


def _kept(path: str, widths_px: set[int]) -> str:
    return "kept" if _width_px(path) in widths_px else "not kept"


def _width_px(path: str) -> int:
    """Each photo has a width of its own: how it is known again, also re-encoded."""
    return 64 + list(_PATHS.values()).index(path)


def _widths_px(folder: Path) -> set[int]:
    widths = set()
    for file in folder.rglob("*.jpg"):
        with Image.open(file) as image:
            widths.add(image.width)
    return widths


def _personae(host: str, folder: Path) -> None:
    """The addresses as a list, the pages as a gallery."""
    (folder / "urls.csv").write_text("\n".join(["name,url", *(f"Ada,{url}" for url in _urls(host))]))
    pages = {
        "start_url": f"http://{host}/pages/",
        "person_links": "a.person",
        "thumbnails": "a.thumb",
        "all_people": True,
    }
    sources = [{"source": "urls", "path": f"{folder}/urls.csv"}, {"source": "gallery", **pages}]
    crawl = {"contact": "bench@example.org", "own_hosts": [host], "sources": sources}
    (folder / "run.yaml").write_text(f"output: {folder}/out\ncrawl: {json.dumps(crawl)}\n")
    subprocess.run([sys.executable, "-m", "crawl", f"{folder}/run.yaml"], check=True, stdout=subprocess.DEVNULL)


def _scrapy(host: str, folder: Path) -> None:
    pages = [f"http://{host}{page}" for page in _PAGES]
    command = [sys.executable, "-c", _SCRAPY, str(folder), *_urls(host), *pages]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _img2dataset(interpreter: str, host: str, folder: Path) -> None:
    """It takes addresses of photos, and reads no pages."""
    shown = [f"http://{host}{photo}" for photo in _PAGES.values()]
    (folder / "urls.txt").write_text("\n".join([*_urls(host), *shown]))
    command = [interpreter, "-c", _IMG2DATASET, str(folder), f"{folder}/urls.txt"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _urls(host: str) -> list[str]:
    return [f"http://{host}{path}" for path in _PATHS.values() if path not in _PAGES.values()]


def _send(to: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    to.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        to.send_header(name, value)
    to.end_headers()
    with suppress(ConnectionError):  # a crawler that has seen enough hangs up
        to.wfile.write(body)


def _photo(width_px: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, width_px, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
