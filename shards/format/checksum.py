"""The two checksums of a tar that the index holds, and how one is taken.

SHA-256 names a tar: nobody can make another one of the same hash. XXH3 (128 bits, https://xxhash.com) is about
twenty times as fast and finds any accident (a torn write, a flipped bit, a wrong file); against somebody who
makes a tar to deceive it proves nothing. Knows nothing of what is in a tar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, Protocol

import xxhash

Checksum = Literal["sha256", "xxh3_128"]
HEX_DIGITS: dict[Checksum, int] = {"sha256": 64, "xxh3_128": 32}


class Running(Protocol):
    """A checksum of what it was fed so far."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


def start(checksum: Checksum) -> Running:
    return hashlib.sha256() if checksum == "sha256" else xxhash.xxh3_128()


class Both:
    """Both checksums of one pass over a tar."""

    def __init__(self) -> None:
        self._sha256, self._xxh3_128 = start("sha256"), start("xxh3_128")

    def update(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self._sha256.update(part)
            self._xxh3_128.update(part)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def xxh3_128(self) -> str:
        return self._xxh3_128.hexdigest()
