"""One POST of JSON over HTTP: bounded in time and size, no redirects, no proxies, no cookies.

The key is in the headers this is made with and nowhere else. Knows no API.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from crawl.fetching.api import Answer

Post = Callable[[bytes], Answer]
"""Send this body. Raises OSError for what did not come whole and in time."""
MAX_BYTES = 4 * 2**20
_CHUNK = 65_536


def poster(url: str, headers: Mapping[str, str], timeout_s: float) -> Post:
    """A Post to this address. Each call opens a connection of its own, so it can be used from several threads."""
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    path = parts.path or "/"

    def connection(wait_s: float) -> http.client.HTTPConnection:
        assert parts.hostname is not None
        if context is not None:
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=wait_s, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=wait_s)

    def post(body: bytes) -> Answer:
        deadline = time.monotonic() + timeout_s
        link = connection(timeout_s)
        try:
            link.connect()
            sock = link.sock  # the link forgets it once the answer has begun
            link.request("POST", path, body, {**headers, "Content-Type": "application/json"})
            with link.getresponse() as response:
                content = _read(response, sock, deadline)
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: not HTTP, or cut short") from None
        finally:
            link.close()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)

    return post


def _read(response: http.client.HTTPResponse, sock: socket.socket, deadline: float) -> bytes:
    content = bytearray()
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left_s)
        chunk = response.read1(_CHUNK)
        content += chunk
        if len(content) > MAX_BYTES:
            raise OSError(f"the answer is longer than {MAX_BYTES:,} bytes")
        if not chunk:
            break
    if response.length:  # read1 says nothing of a body that ends early
        raise OSError("the answer ended early")
    return bytes(content)
