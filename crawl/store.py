"""Content-addressed originals: `photos/ab/ab12….jpg`, named by the sha256 of their bytes.

Working data, never published. Knows nothing of whose photo it is or where it came from.
"""

from __future__ import annotations

import hashlib
import os

from crawl.output import Output
from crawl.photo import Photo


class Store:
    """The `photos/` of a dataset folder."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._folders: set[str] = set()

    def put(self, content: bytes) -> tuple[str, str]:
        """Keep the bytes, once; returns (sha256, suffix). Whole at once, and for good once `sync` was called."""
        sha256, suffix = hashlib.sha256(content).hexdigest(), suffix_of(content)
        name = _name(sha256, suffix)
        if not self._output.exists(name):
            self._output.write(name, content, sync_folder=False)
            self._folders.add(os.path.dirname(name))
        return sha256, suffix

    def sync(self) -> None:
        """All that was put until now outlives a power cut."""
        while self._folders:
            self._output.sync(self._folders.pop())

    def has(self, photo: Photo) -> bool:
        return self._output.exists(_name(photo.sha256, photo.suffix))

    def read(self, photo: Photo) -> bytes:
        return self._output.read(_name(photo.sha256, photo.suffix))


def suffix_of(content: bytes) -> str:
    """File suffix by magic bytes."""
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "avif"
    return "bin"


def _name(sha256: str, suffix: str) -> str:
    return f"photos/{sha256[:2]}/{sha256}.{suffix}"
