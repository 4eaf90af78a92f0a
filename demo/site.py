"""A small photo gallery on loopback, over the demo's photos, with everything a crawler must mind.

A list of people, pages of thumbnails, photo pages; a section that robots.txt forbids, a photo that opts out, a
dead link. Knows nothing of who crawls it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

THUMBNAILS_A_PAGE = 5
FORBIDDEN = "not-for-robots"
"""A person in the list whose pages robots.txt forbids."""
OPTED_OUT = ("group-2", "view-1.jpg")
DEAD = ("group-3", "gone.jpg")
"""Linked, and not there."""
ROBOTS = f"User-agent: *\nDisallow: /photos/{FORBIDDEN}/\n"


class Gallery:
    """The site's pages, by path."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.people = [*sorted(p.name for p in root.iterdir() if p.is_dir()), FORBIDDEN]

    def answer(self, target: str) -> tuple[int, str, bytes, dict[str, str]]:
        """(status, content type, body, further headers)."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        if path == "/robots.txt":
            return 200, "text/plain", ROBOTS.encode(), {}
        if path == "/photos/":
            return self._page(_links("people", [(f"/photos/{quote(p)}/", p) for p in self.people]))
        match path.strip("/").split("/"):
            case ["photos", person] if person in self.people and person != FORBIDDEN:
                return self._page(self._thumbnails(person, int(parse_qs(parts.query).get("page", ["1"])[0])))
            case ["photo", person, name] if person in self.people:
                return self._page(f'<div class="full"><img src="/full/{quote(person)}/{quote(name)}"></div>')
            case ["full", person, name] if (self._root / person / name).is_file():
                headers = {"X-Robots-Tag": "noai"} if (person, name) == OPTED_OUT else {}
                return 200, "image/jpeg", (self._root / person / name).read_bytes(), headers
        return 404, "text/plain", b"not here", {}

    def _thumbnails(self, person: str, page: int) -> str:
        names = sorted(f.name for f in (self._root / person).iterdir())
        names += [DEAD[1]] if person == DEAD[0] else []
        pages = -(-len(names) // THUMBNAILS_A_PAGE)
        shown = names[(page - 1) * THUMBNAILS_A_PAGE : page * THUMBNAILS_A_PAGE]
        further = [(f"/photos/{quote(person)}/?page={n}", str(n)) for n in range(1, pages + 1)]
        count = f'<p class="count">{len(names)} photos</p>'
        thumbnails = _links("thumbnails", [(f"/photo/{quote(person)}/{quote(name)}", name) for name in shown])
        return count + thumbnails + _links("pages", further)

    def _page(self, body: str) -> tuple[int, str, bytes, dict[str, str]]:
        page = f"<!doctype html><html><head><title>Gallery</title></head><body>{body}</body></html>"
        return 200, "text/html; charset=utf-8", page.encode(), {}


@contextmanager
def gallery_site(root: Path) -> Iterator[str]:
    """Serve the photos below `root`; yields HOST:PORT."""
    with _Server(("127.0.0.1", 0), _handler(Gallery(root).answer)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *arguments: object) -> None:
        """Nothing: a crawler may hang up at headers that opt out."""


def _handler(
    answer: Callable[[str], tuple[int, str, bytes, dict[str, str]]],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content_type, body, headers = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nothing: the demo's own output is what a person reads."""

    return Handler


def _links(kind: str, links: list[tuple[str, str]]) -> str:
    items = "".join(f'<a href="{escape(address)}">{escape(text)}</a>' for address, text in links)
    return f'<div class="{kind}">{items}</div>'
