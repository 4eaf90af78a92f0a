"""Weight files: which file a model needs, where it is kept, and whether it is the right one.

A pinned file is used only after its size and SHA-256 have been checked, once per process; other files are the
packages' own, brought by the packages' own functions. Knows nothing of what a model does with a file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import os
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crawl.errors import InputError, one_line

TIMEOUT_S = 30
"""Longest wait for the server's next byte."""
CHUNK_BYTES = 1 << 20
REASON_CHARS = 300
"""Of another's message in ours."""

Fetch = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens an address for reading; raises OSError when that cannot be done."""
Bring = Callable[[Path], object]
"""Downloads into an empty folder, in a package's own way."""
BRING_ERRORS = (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
"""What packages raise when a download fails or brings no whole archive; requests' errors are OSErrors."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One weight file, pinned by content."""

    name: str
    file: str
    """Plain file name: in the cache folder, or in `package`."""
    sha256: str
    num_bytes: int
    licence: str
    input_size: str
    """What the network is fed."""
    source: str
    """Where the weights come from, for people."""
    url: str | None = None
    """Names a commit by its whole hash, so that it goes on meaning the same file; `sha256` guards it all the same."""
    package: str | None = None
    """The installed distribution that carries the file; None for downloads."""

    @property
    def version(self) -> str:
        """Name and content: what a row records of the model that measured it."""
        return f"{self.name}@{self.sha256[:8]}"


def fetch_https(url: str, schemes: tuple[str, ...] = ("https",)) -> AbstractContextManager[BinaryIO]:
    """Open an address for reading. Raises OSError."""
    if urllib.parse.urlsplit(url).scheme not in schemes:
        raise OSError(f"weights are downloaded over {' or '.join(schemes)} only")
    request = urllib.request.Request(url, headers={"User-Agent": "personae (weights download)"})
    try:
        opened: AbstractContextManager[BinaryIO] = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP status {error.code}") from None
    return opened


def cache_folder() -> Path:
    """`PERSONAE_CACHE`, or `personae` in the user's cache directory. Need not exist."""
    if named := os.environ.get("PERSONAE_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/personae").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "personae"


def weights_path(spec: ModelSpec, fetch: Fetch = fetch_https) -> Path:
    """The verified file of `spec`, downloaded when it is not in the cache yet.

    Raises InputError: no such file and no download, or a file of other content (which is left alone).
    """
    path = packaged(spec.package, spec.file) if spec.package else cache_folder() / spec.file
    if not path.exists() and spec.url is not None:
        _download(spec, spec.url, path, fetch)
    if not path.is_file():
        raise InputError(f"{path}: {spec.name}: no such weight file")
    num_bytes = path.stat().st_size
    found_sha256 = sha256_of(path) if num_bytes == spec.num_bytes else None
    if found_sha256 != spec.sha256:
        found = f"sha256 {found_sha256}" if found_sha256 else f"{num_bytes:,} bytes"
        raise InputError(
            f"{path}: not the weights of {spec.name}: expected sha256 {spec.sha256} ({spec.num_bytes:,} bytes), "
            f"found {found}; the file is not used and left as it is"
        )
    return path


def bring(wanted: tuple[Path, ...], cache: Path, bringer: Bring, url: str, by_hand: str) -> None:
    """Have a package download the `wanted` files, all below `cache`; they appear whole, and nothing else stays.

    What the package prints is not shown. Files that are there already are left as they are. Raises InputError naming
    `url` and, in `by_hand`, what a person can do instead.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as temp:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                bringer(Path(temp))
            _pick(wanted, {path.name: path for path in Path(temp).rglob("*") if path.is_file()})
    except BRING_ERRORS as error:
        reason = one_line(error.__cause__ or error)[:REASON_CHARS]
        raise InputError(f"{url}: cannot be downloaded: {reason}; to go on, {by_hand}") from None


def packaged(package: str, file: str) -> Path:
    """A file of an installed distribution, found without importing it. Raises InputError."""
    try:
        listed = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"{package}: not installed; it carries {file}: pip install {package}") from None
    for entry in listed:
        if entry.name == file:
            return Path(str(entry.locate()))
    raise InputError(f"{package}: the installed package holds no file {file}")


def sha256_of(path: Path) -> str:
    """Hash of a file in hex; read once per process unless the file changes."""
    stat = path.stat()
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


def _download(spec: ModelSpec, url: str, path: Path, fetch: Fetch) -> None:
    by_hand = f"to go on, put the file at {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temp:
            try:
                found = _receive(fetch, url, temp, spec.num_bytes)
                if found != spec.sha256:
                    raise InputError(
                        f"{url}: expected sha256 {spec.sha256} ({spec.num_bytes:,} bytes), received {found}; "
                        f"nothing is kept; {by_hand}"
                    )
                temp.flush()
                _settle(Path(temp.name), path)
            finally:
                Path(temp.name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{url}: cannot be downloaded: {' '.join(str(error).split())}; {by_hand}") from None


def _pick(wanted: tuple[Path, ...], brought: dict[str, Path]) -> None:
    if lacking := [path.name for path in wanted if path.name not in brought]:
        raise ValueError(f"what came holds no {' and no '.join(lacking)}")
    for path in wanted:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            _settle(brought[path.name], path)


def _settle(temp: Path, path: Path) -> None:
    """Give a whole file its place, on the disk before its name is."""
    with open(temp, "rb") as file:
        os.fsync(file.fileno())
    temp.chmod(0o644)  # a temporary file is its owner's only; a cache may be shared
    os.replace(temp, path)


def _receive(fetch: Fetch, url: str, into: BinaryIO | tempfile._TemporaryFileWrapper[bytes], num_bytes: int) -> str:
    """Copy at most one chunk more than `num_bytes`; returns the hash of what came, in hex."""
    digest, received = hashlib.sha256(), 0
    with fetch(url) as response:
        for chunk in _chunks(response):
            received += len(chunk)
            if received > num_bytes:
                return f"more than {num_bytes:,} bytes"
            digest.update(chunk)
            into.write(chunk)
    return digest.hexdigest() if received == num_bytes else f"{received:,} bytes"


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(functools.partial(file.read, CHUNK_BYTES), b"")


@functools.cache
def _sha256(path: str, size: int, modified_ns: int) -> str:
    """Size and time tell whether the file is still the one that was read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in _chunks(file):
            digest.update(chunk)
    return digest.hexdigest()
