"""The tars of a dataset as files: each checked once against the index, then read by ranges.

A file is known again by size and modification time. A tar that is not on this machine is copied to an
unnamed temporary file while it is hashed. Knows nothing of samples.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO, Any, Literal, Protocol

from crawl.output import Output
from shards.format.checksum import Checksum, start
from shards.format.index import FOLDER, Index
from shards.format.tar import END, ShardError

Verify = Literal["first", "sha256", "never"]
"""Checked when a tar is first opened: the index's fast checksum, its SHA-256, or size and end alone."""
_CHUNK = 1 << 18
"""Stays in a core's cache between reading and hashing."""
_MAX_OPEN = 64
_MAX_COPIES = 4
"""Of remote tars: each takes its whole size of local disk."""


class ShardFiles:
    """Opens, checks and keeps open. Usable in forked and pickled copies: each opens its own files."""

    def __init__(self, output: Output, index: Index, verify: Verify, folder: str = f"{FOLDER}/") -> None:
        self._output = output
        self._index = index
        self._verify = verify
        self._folder = folder
        self._open: OrderedDict[int, _File] = OrderedDict()
        self._verified: dict[int, tuple[int, int]] = {}
        self._bad: dict[int, str] = {}
        self._ahead: dict[tuple[int, int], Future[_File]] = {}
        self._last = -1

    def name(self, number: int) -> str:
        """What errors call this shard."""
        return self._output.path(f"{self._folder}{self._index.shards[number].file}")

    def read(self, number: int, offset: int, num_bytes: int) -> bytes:
        """One range of a shard. Raises ShardError if the shard is bad or was found bad before."""
        content = self._opened(number).read(offset, num_bytes)
        self._last = number
        if len(content) != num_bytes:
            raise self.condemn(number, f"is torn: it ends at byte {offset + len(content):,}")
        return content

    def condemn(self, number: int, reason: str) -> ShardError:
        """Remember that this shard is bad; from now on reading it raises the returned error."""
        return ShardError(self.name(number), self._bad.setdefault(number, reason))

    def prepare_next(self, until: int) -> None:
        """Begin to fetch and check the shard behind the one read last, in a thread, up to shard `until`.

        What goes wrong is said when that shard is read.
        """
        number = self._last + 1
        place = (os.getpid(), number)
        known = number in self._open or number in self._bad or place in self._ahead
        if known or number > until or self._verify == "never":
            return
        self._ahead[place] = future = Future[_File]()
        threading.Thread(target=_resolve, args=(future, self._open_checked, number), daemon=True).start()

    def close(self) -> None:
        for number in [number for process, number in self._ahead if process == os.getpid()]:
            with contextlib.suppress(ShardError, OSError):
                self._opened(number)
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_ahead": {}}

    def _opened(self, number: int) -> _File:
        if number in self._bad:
            raise ShardError(self.name(number), self._bad[number])
        file = self._open.get(number)
        if file is None:
            ahead = self._ahead.pop((os.getpid(), number), None)  # a forked copy has not the thread
            file = self._open_checked(number) if ahead is None else ahead.result()
            self._open[number] = file
            if len(self._open) > (_MAX_OPEN if self._output.is_local else _MAX_COPIES):
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(number)
        return file

    def _open_checked(self, number: int) -> _File:
        try:
            return self._open_local(number) if self._output.is_local else self._open_remote(number)
        except FileNotFoundError:
            raise self.condemn(number, "is missing") from None

    def _open_local(self, number: int) -> _File:
        # O_NONBLOCK: a pipe under a tar's name must not be waited for
        file = _Local(os.open(self.name(number), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        stat = os.fstat(file.descriptor)
        self._check_size(number, stat.st_size)
        if self._verify != "never" and self._verified.get(number) != (stat.st_size, stat.st_mtime_ns):
            self._check_content(number, file, _digest(file, self._checksum(number)))
            self._verified[number] = (stat.st_size, stat.st_mtime_ns)
        return self._ended(number, file)

    def _open_remote(self, number: int) -> _File:
        name = f"{self._folder}{self._index.shards[number].file}"
        stream = self._output.open(name)
        if self._verify == "never":
            self._check_size(number, self._output.size(name))
            return self._ended(number, _Remote(stream))
        with stream, tempfile.TemporaryFile() as copy:
            digest = _copy(stream, copy, self._checksum(number))
            file = _Local(os.dup(copy.fileno()))
        self._check_size(number, os.fstat(file.descriptor).st_size)
        self._check_content(number, file, digest)
        return self._ended(number, file)

    def _checksum(self, number: int) -> Checksum:
        return "sha256" if self._verify == "sha256" else self._index.shards[number].everyday_checksum

    def _check_size(self, number: int, num_bytes: int) -> None:
        expected = self._index.shards[number].num_bytes
        if num_bytes != expected:
            raise self.condemn(number, f"has {num_bytes:,} bytes, the index says {expected:,}")

    def _check_content(self, number: int, file: _File, digest: str) -> None:
        """The checksum; and that every sample of the index begins where it says, which with no gaps is the count."""
        checksum = self._checksum(number)
        if digest != getattr(self._index.shards[number], checksum):
            raise self.condemn(number, f"is damaged: its {checksum} is {digest}, the index says otherwise")
        for position in self._index.positions_in(number):
            key, offset = self._index.keys[position], int(self._index.offsets[position])
            if file.read(offset, len(key)) != key:
                raise self.condemn(number, f"has no sample {key.decode()} at byte {offset:,}, where the index has it")

    def _ended(self, number: int, file: _File) -> _File:
        if file.read(self._index.shards[number].num_bytes - len(END), len(END)) != END:
            raise self.condemn(number, "does not end with two blocks of zeros")
        return file


class _File(Protocol):
    """Something open that gives ranges, fewer bytes only at its end."""

    @property
    def close(self) -> Callable[[], Any]: ...

    def read(self, offset: int, num_bytes: int) -> bytes: ...


class _Local:
    """A descriptor: positioned reads share nothing between threads and forks.

    No mmap: a file that others cut short is then a short read and not a SIGBUS.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)

    def read(self, offset: int, num_bytes: int) -> bytes:
        content = os.pread(self.descriptor, num_bytes, offset)
        if len(content) in (num_bytes, 0):
            return content
        return content + self.read(offset + len(content), num_bytes - len(content))  # > 2 GiB comes in parts


class _Remote:
    """A stream of fsspec, read where it is asked to."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.close = stream.close

    def read(self, offset: int, num_bytes: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(num_bytes)


def _resolve(future: Future[_File], open_checked: Callable[[int], _File], number: int) -> None:
    try:
        future.set_result(open_checked(number))
    except BaseException as error:
        future.set_exception(error)


def _digest(file: _Local, checksum: Checksum) -> str:
    digest, buffer, at = start(checksum), bytearray(_CHUNK), 0
    view = memoryview(buffer)
    while got := os.preadv(file.descriptor, [buffer], at):
        digest.update(view[:got])
        at += got
    return digest.hexdigest()


def _copy(source: IO[bytes], target: IO[bytes], checksum: Checksum) -> str:
    digest = start(checksum)
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    target.flush()
    return digest.hexdigest()
