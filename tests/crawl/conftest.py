"""A hostile web server on loopback: raw sockets, one thread a connection, each path one behaviour.

`hostile_server(routes={"/a.jpg": answers.ok(jpeg)})` starts one and returns it; it is stopped after the test.
Everything asked of it lands in `server.hits`. What has no route is a 404, robots.txt and tdmrep.json too, so
that all is allowed until a test says otherwise.

Virtual hosts. The crawler's guard refuses names that resolve to loopback unless the child is told that loopback
is the internet (`allowed_networks`). Two ways work with it:
* another loopback address a host: `hostile_server(host="0.0.0.0")`, then `server.url("/a.jpg", host="127.0.1.7")`
  with `allowed_networks=("127.0.1.0/24",)`. Needs no names, works for any child process.
* names: a test that makes its own child can hand GuardedResolver a `getaddrinfo` that knows `a.test`.
`server.route(path, answer, host="127.0.1.7")` answers by Host header, whose port is ignored.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import pytest

Answer = Callable[["Exchange"], None]
Headers = Sequence[tuple[str, str]]

MAX_REQUEST_BYTES = 256 * 1024


@dataclass
class Hit:
    """One request, and when its answer was over."""

    method: str
    path: str
    """With the query, as sent."""
    headers: list[tuple[str, str]]
    address: str
    """Of this server, as connected to."""
    connection: int
    """Which of the server's connections, from 0."""
    started_s: float
    """When the whole request was here, time.monotonic()."""
    ended_s: float | None = None
    """Just before the last bytes were handed over: after them the client may ask again at any moment."""

    @property
    def host(self) -> str:
        return self.header("host") or ""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Exchange:
    """One request being answered: what a behaviour writes to."""

    def __init__(self, server: Server, connection: socket.socket, hit: Hit) -> None:
        self.server = server
        self.connection = connection
        self.hit = hit
        self.keep_open = False

    def send(self, content: bytes) -> None:
        self.connection.sendall(content)

    def finish(self, content: bytes) -> None:
        """Send the last bytes of an answer whose end the client knows, so that another may follow."""
        self.hit.ended_s = time.monotonic()
        self.keep_open = True
        self.send(content)

    def head(self, status: int, headers: Headers = (), length: int | None = None) -> None:
        self.send(_head(status, headers, length))

    def wait(self, seconds: float) -> None:
        """Sleep; over at once, with an error that ends the connection, when the server stops or the client left."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.server.stopping.wait(min(left, 0.05)) or self._left():
                raise ConnectionAbortedError

    def _left(self) -> bool:
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False


class Answers:
    """The behaviours. Each method returns one answer for `routes`."""

    def ok(
        self, body: bytes = b"", content_type: str | None = "image/jpeg", headers: Headers = (), status: int = 200
    ) -> Answer:
        typed = [*headers] if content_type is None else [("Content-Type", content_type), *headers]

        def answer(to: Exchange) -> None:
            to.finish(_head(status, typed, len(body)) + (b"" if to.hit.method == "HEAD" else body))

        return answer

    def status(self, status: int, headers: Headers = (), body: bytes = b"no\n") -> Answer:
        return self.ok(body, "text/plain", headers, status)

    def text(self, text: str, headers: Headers = ()) -> Answer:
        """A robots.txt, for instance."""
        return self.ok(text.encode(), "text/plain; charset=utf-8", headers)

    def json(self, text: str) -> Answer:
        return self.ok(text.encode(), "application/json")

    def html(self, body: str = "", meta: Mapping[str, str] | None = None, headers: Headers = ()) -> Answer:
        """A page with <meta name=… content=…> elements."""
        head = "".join(f'<meta name="{name}" content="{content}">' for name, content in (meta or {}).items())
        page = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"
        return self.ok(page.encode(), "text/html; charset=utf-8", headers)

    def redirect(self, to_url: str, status: int = 302) -> Answer:
        return self.status(status, [("Location", to_url)], b"")

    def tagged(self, body: bytes, etag: str | None = None, last_modified: str | None = None) -> Answer:
        """200 with its validators; 304 to whoever knows one of them."""
        validators = [(k, v) for k, v in (("ETag", etag), ("Last-Modified", last_modified)) if v is not None]
        fresh = self.ok(body, headers=validators)

        def answer(to: Exchange) -> None:
            asked = to.hit.header("if-none-match") or to.hit.header("if-modified-since")
            if asked is None or asked not in (etag, last_modified):
                return fresh(to)
            return to.finish(_head(304, validators))

        return answer

    def in_turn(self, *answers: Answer) -> Answer:
        """The first answer to the first request, and so on; the last for ever."""
        lock, queue = threading.Lock(), list(answers)

        def answer(to: Exchange) -> None:
            with lock:
                chosen = queue.pop(0) if len(queue) > 1 else queue[0]
            chosen(to)

        return answer

    def slow(self, seconds: float, then: Answer) -> Answer:
        def answer(to: Exchange) -> None:
            to.wait(seconds)
            then(to)

        return answer

    def silent(self) -> Answer:
        """Takes the request and never says a word."""
        return self.slow(3600, self.hang_up())

    def drip_head(self, every_s: float = 0.05) -> Answer:
        """A header that never ends, a byte at a time."""

        def answer(to: Exchange) -> None:
            to.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while True:
                to.send(b"z")
                to.wait(every_s)

        return answer

    def drip_body(self, body: bytes, every_s: float = 0.05, num_bytes: int = 1) -> Answer:
        """A whole, correct answer, `num_bytes` at a time."""

        def answer(to: Exchange) -> None:
            to.head(200, [("Content-Type", "image/jpeg")], len(body))
            last = (len(body) - 1) // num_bytes * num_bytes
            for at in range(0, last, num_bytes):
                to.send(body[at : at + num_bytes])
                to.wait(every_s)
            to.finish(body[last:])

        return answer

    def endless(self, start: bytes = b"", piece: bytes = bytes(64 * 1024), chunked: bool = True) -> Answer:
        """A body without end, in chunks or of no length, as fast as it is read."""

        def framed(content: bytes) -> bytes:
            return b"%x\r\n%s\r\n" % (len(content), content) if chunked and content else content

        def answer(to: Exchange) -> None:
            to.head(200, [("Content-Type", "image/jpeg"), *([("Transfer-Encoding", "chunked")] if chunked else [])])
            to.send(framed(start))
            while not to.server.stopping.is_set():
                to.send(framed(piece))

        return answer

    def claims(self, num_bytes: int, body: bytes = b"") -> Answer:
        """Announces `num_bytes`, sends `body`, then nothing more and stays."""

        def answer(to: Exchange) -> None:
            to.head(200, [("Content-Type", "image/jpeg")], num_bytes)
            to.send(body)
            to.wait(3600)

        return answer

    def short(self, body: bytes, missing: int = 1) -> Answer:
        """Announces `missing` bytes more than it sends, then closes."""

        def answer(to: Exchange) -> None:
            to.head(200, [("Content-Type", "image/jpeg")], len(body) + missing)
            to.send(body)

        return answer

    def until_close(self, body: bytes) -> Answer:
        """No length: the body ends where the connection does."""

        def answer(to: Exchange) -> None:
            to.head(200, [("Content-Type", "image/jpeg")])
            to.send(body)

        return answer

    def cut_chunks(self, body: bytes) -> Answer:
        """Chunked, and closed without the last, empty chunk."""

        def answer(to: Exchange) -> None:
            to.head(200, [("Content-Type", "image/jpeg"), ("Transfer-Encoding", "chunked")])
            to.send(b"%x\r\n%s\r\n" % (len(body), body))

        return answer

    def reset(self, after: bytes = b"") -> Answer:
        """Sends `after` as it is, then a TCP reset."""

        def answer(to: Exchange) -> None:
            to.send(after)
            to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return answer

    def hang_up(self) -> Answer:
        return self.raw(b"")

    def raw(self, content: bytes) -> Answer:
        """These very bytes, HTTP or not, then the end."""

        def answer(to: Exchange) -> None:
            to.send(content)

        return answer

    def bomb(self, num_bytes: int, encoding: str = "gzip") -> Answer:
        """`num_bytes` zeros as gzip or br: a few kilobytes on the wire, whatever the client accepts."""
        return self.ok(_deflated(num_bytes, encoding), headers=[("Content-Encoding", encoding)])

    def gzipped(self, body: bytes) -> Answer:
        return self.ok(gzip.compress(body, mtime=0), headers=[("Content-Encoding", "gzip")])


@dataclass
class Server:
    """A server that runs. Routes may be added at any time."""

    listener: socket.socket
    bound_to: str
    port: int
    routes: dict[tuple[str | None, str], Answer] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    """In the order in which their requests were complete."""
    connections: int = 0
    """Accepted so far, whether or not anything was asked."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """An address to reach it under."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bound_to, self.bound_to)

    def url(self, path: str = "/", host: str | None = None) -> str:
        name = host or self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}{path}"

    def route(self, path: str, answer: Answer, host: str | None = None) -> str:
        """Answer this path, with any query, under this Host header or any; returns the URL."""
        self.routes[host, path] = answer
        return self.url(path, host)

    def chain(self, path: str, redirects: int, to_url: str, status: int = 302) -> str:
        """`redirects` redirects one after the other, from `path` to `to_url`; returns where to begin."""
        steps = [path, *(f"{path}/{n}" for n in range(1, redirects)), to_url]
        for here, there in itertools.pairwise(steps):
            self.route(here, Answers().redirect(there, status))
        return self.url(path)

    def paths(self, host: str | None = None) -> list[str]:
        """The paths asked for, in order, under this Host (without port) or any."""
        return [hit.path for hit in list(self.hits) if host is None or _name(hit.host) == host]

    def hits_of(self, path: str) -> list[Hit]:
        return [hit for hit in list(self.hits) if hit.path == path]

    def max_concurrency(self, host: str | None = None) -> int:
        """The most requests that were being answered at one moment."""
        events: list[tuple[float, int]] = []
        for hit in list(self.hits):
            if host is None or _name(hit.host) == host:
                ended = time.monotonic() if hit.ended_s is None else hit.ended_s
                events += [(hit.started_s, 1), (ended, -1)]
        most = now = 0
        for _, change in sorted(events):
            now += change
            most = max(most, now)
        return most

    def gaps_s(self, host: str | None = None) -> list[float]:
        """Between the arrivals of one request and the next."""
        starts = sorted(hit.started_s for hit in list(self.hits) if host is None or _name(hit.host) == host)
        return [later - earlier for earlier, later in itertools.pairwise(starts)]

    def stop(self) -> None:
        self.stopping.set()
        for connection in (self.listener, *list(self._open)):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in list(self._threads):
            thread.join(timeout=10)

    def start(self) -> None:
        self._run(self._accept)

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._run(self._serve, connection, self.connections)
            self.connections += 1

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                pending = b""
                while (request := self._request(connection, pending)) is not None:
                    head, pending = request
                    if not self._answer(connection, self._hit(connection, head, number)):
                        return
        finally:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket, hit: Hit) -> bool:
        """Whether the connection may be used again."""
        exchange = Exchange(self, connection, hit)
        try:
            self._find(hit)(exchange)
        finally:
            hit.ended_s = hit.ended_s or time.monotonic()
        return exchange.keep_open and (hit.header("connection") or "").lower() != "close"

    def _request(self, connection: socket.socket, pending: bytes) -> tuple[bytes, bytes] | None:
        """(head of the next request, what came after it); None when the client is gone or the server stops."""
        while b"\r\n\r\n" not in pending:
            if self.stopping.is_set() or len(pending) > MAX_REQUEST_BYTES:
                return None
            received = connection.recv(65536)
            if not received:
                return None
            pending += received
        head, _, rest = pending.partition(b"\r\n\r\n")
        return head, rest

    def _hit(self, connection: socket.socket, head: bytes, number: int) -> Hit:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path = (*first.split(" "), "", "")[:2]
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        address = connection.getsockname()[0]
        with self._lock:
            hit = Hit(method, path, headers, address, number, time.monotonic())
            self.hits.append(hit)
        return hit

    def _find(self, hit: Hit) -> Answer:
        path = hit.path.partition("?")[0]
        own = self.routes.get((_name(hit.host), path)) or self.routes.get((None, path))
        return own or Answers().status(404)


def _name(host: str) -> str:
    """A Host header without its port and brackets."""
    return host.rpartition("]")[0].lstrip("[") if "]" in host else host.partition(":")[0]


def _head(status: int, headers: Headers = (), length: int | None = None) -> bytes:
    sized = [] if length is None else [("Content-Length", str(length))]
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{k}: {v}" for k, v in (*headers, *sized))]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Odd"


def _deflated(num_bytes: int, encoding: str) -> bytes:
    if encoding == "br":
        brotli = pytest.importorskip("brotli", reason="no brotli here to build a bomb with")
        squeeze = brotli.Compressor(quality=5)
        feed, finish = squeeze.process, squeeze.finish
    else:
        deflate = zlib.compressobj(9, wbits=31)
        feed, finish = deflate.compress, deflate.flush
    piece = bytes(1 << 20)
    whole = [feed(piece[: min(len(piece), num_bytes - at)]) for at in range(0, num_bytes, len(piece))]
    return b"".join([*whole, finish()])


@pytest.fixture(scope="session")
def answers() -> Answers:
    return Answers()


@pytest.fixture
def hostile_server() -> Iterator[Callable[..., Server]]:
    """Start a server: `hostile_server(host="127.0.0.1", routes={path: answer}, port=0)`; stopped after the test."""
    running: list[Server] = []

    def start(host: str = "127.0.0.1", routes: Mapping[str, Answer] | None = None, port: int = 0) -> Server:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
        server = Server(listener, host, listener.getsockname()[1])
        running.append(server)
        for path, answer in (routes or {}).items():
            server.route(path, answer)
        server.start()
        return server

    yield start
    for server in running:
        server.stop()
