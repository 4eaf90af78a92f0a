"""The local site over HTTP: 127.0.0.1 only, reading only, and only for pages of its own.

A page of another site must not read this one through a name that it points at 127.0.0.1 (DNS rebinding): the Host
header has to be ours. Nor may it show our pictures: what a page of another origin asks for in passing is refused.
"""

from __future__ import annotations

import os
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from crawl.errors import InputError
from shards.report.folder import Folder
from shards.report.page import PLOTLY, asset, site_policy
from shards.serve.site import Answer, Site

ADDRESS = "127.0.0.1"
_IDLE_S = 30.0
_LONGEST_TARGET = 4096


class Server(ThreadingHTTPServer):
    """Serves one dataset until it is shut down."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url: str, port: int) -> None:
        """Port 0 takes any that is free. Raises InputError for a folder without a dataset and a port not to be had."""
        if not 0 <= port <= 65535:
            raise InputError(f"--port: {port}: not between 0 and 65535")
        asset(PLOTLY)
        self.site = Site(Folder(url))
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise InputError(f"--port: {port}: {os.strerror(error.errno) if error.errno else error}") from None

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; anything else is."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | socket.timeout):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "Personae"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        refused = self._refused()
        self._send(refused or self.server.site.answer(self.path))

    do_HEAD = do_GET

    def _refused(self) -> Answer | None:
        port = self.server.server_address[1]
        hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")} | (
            {ADDRESS, "localhost"} if port == 80 else set()
        )
        if len(self.headers.get_all("Host", [])) != 1 or self.headers["Host"].lower() not in hosts:
            return _said(HTTPStatus.MISDIRECTED_REQUEST, "This site answers to 127.0.0.1 and localhost only.")
        elsewhere = self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if elsewhere and self.headers.get("Sec-Fetch-Dest") != "document":
            return _said(HTTPStatus.FORBIDDEN, "Not for pages of other sites.")
        if len(self.path) > _LONGEST_TARGET:
            return _said(HTTPStatus.REQUEST_URI_TOO_LONG, "Too long.")
        return None

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "private, max-age=3600" if answer.lasting else "no-store")
        self.send_header("Content-Security-Policy", site_policy())
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: addresses hold keys of people."""


def _said(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())
