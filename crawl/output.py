"""The dataset folder: a local path or any fsspec URL, and the one way to put a file there.

A file appears under its final name complete or not at all: it is written beside it (or, for an
object store, on local disk), flushed, fsynced and then renamed (or uploaded).
Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from crawl.errors import InputError

_TEMPORARY = ".tmp-"


class Output:
    """A dataset folder, or the photos' folder under it. Paths are relative, with forward slashes."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InputError(f"output: {url}: {error}") from error
        self._root = str(root).rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def __reduce__(self) -> tuple[type[Output], tuple[str]]:
        return Output, (self.url,)

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        return bool(os.path.exists(self.path(name)) if self.is_local else self._fs.exists(self.path(name)))

    def size(self, name: str) -> int:
        return int(self._fs.size(self.path(name)))

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return bytes(file.read())

    def open(self, name: str) -> IO[bytes]:
        """Open for reading; seekable."""
        if self.is_local:
            return open(self.path(name), "rb")
        stream: IO[bytes] = self._fs.open(self.path(name), "rb")
        return stream

    def write(self, name: str, content: bytes, sync_folder: bool = True) -> None:
        with self.create(name, sync_folder) as file:
            file.write(content)

    @contextlib.contextmanager
    def create(self, name: str, sync_folder: bool = True) -> Iterator[IO[bytes]]:
        """A new file, seen under `name` only once the block ends without an error.

        Without `sync_folder` it may be gone after a power cut, whole, until `sync` is called for its folder.
        Raises OSError, with `filename` set, when the disk is full or not writable.
        """
        path = self.path(name)
        folder = os.path.dirname(path) if self.is_local else tempfile.gettempdir()
        temporary = None
        try:
            descriptor, temporary = _temporary(folder)
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            if self.is_local:
                os.replace(temporary, path)
                temporary = None
                if sync_folder:
                    _fsync_folder(folder)
            else:
                self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._fs.put_file(temporary, path)
        except OSError as error:
            if error.filename is not None and _TEMPORARY not in os.fsdecode(error.filename):
                raise  # of another file: a row of this table that could not be made
            raise OSError(error.errno, error.strerror or str(error), path) from error
        finally:
            if temporary is not None:
                os.unlink(temporary)

    def sync(self, folder: str) -> None:
        """What was written into the folder outlives a power cut."""
        if self.is_local:
            _fsync_folder(self.path(folder))

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.path(name))

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in `folder`, sorted; [] when there is no such folder."""
        try:
            entries: list[dict[str, Any]] = self._fs.ls(self.path(folder), detail=True)
        except FileNotFoundError:
            return []
        files = (str(e["name"]).rsplit("/", 1)[1] for e in entries if e["type"] == "file")
        return sorted(f for f in files if not f.startswith(_TEMPORARY))

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in `folder`, sorted; [] when there is no such folder."""
        try:
            entries: list[dict[str, Any]] = self._fs.ls(self.path(folder).rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        return sorted(str(e["name"]).rstrip("/").rsplit("/", 1)[1] for e in entries if e["type"] == "directory")

    def remove_stale(self, folders: list[str]) -> None:
        """Remove what a killed run left half-written in these folders (local folders only)."""
        if self.is_local:
            for folder in folders:
                for stale in Path(self.path(folder)).glob(f"{_TEMPORARY}*"):
                    stale.unlink(missing_ok=True)


def _temporary(folder: str) -> tuple[int, str]:
    """A new file for all to read, open for writing, and its path; makes the folder only where there is none."""
    path = f"{folder}/{_TEMPORARY}{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(path, flags, 0o644)
    os.fchmod(descriptor, 0o644)  # whatever the umask
    return descriptor, path


def _fsync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
