"""The `folder` source: `root/PERSON/**/file`, one sub-folder a person.

Lists everything there is, whatever it is called and whatever it is; opens regular files only. Links
lead to files inside the root, never out of it and never into folders. Knows nothing of images.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crawl.errors import InputError
from crawl.photo import Rejection

REASONS = {
    "empty": "no bytes",
    "too_large": "value: bytes; threshold: `crawl.max_bytes`. Not read",
    "unreadable": "permission denied, or the disk could not read it; a folder ends in /, and nothing in it was seen",
    "path_too_long": "longer than the system can open; likewise",
    "vanished": "seen, and gone when it was to be read",
    "not_a_file": "a pipe, socket or device; never opened",
    "dangling_link": "a link to nothing, or in a circle",
    "linked_folder": "a link to a folder: its photos are found where they lie, or not meant to be",
    "unsafe_link": "a link that leads out of `crawl.root`",
    "no_person_folder": "lies in `crawl.root` itself, so that nobody knows whom it shows",
}
"""Why a file that was found has no bytes, and what that means."""

_ESCAPED = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Backslash, control and line separating characters, bidirectional overrides, bytes that are no UTF-8."""
_REFUSALS = {
    errno.ENOENT: "vanished",
    errno.ENOTDIR: "vanished",
    errno.ENAMETOOLONG: "path_too_long",
    errno.ELOOP: "unsafe_link",
    errno.ENXIO: "not_a_file",
}
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """One thing in the root that is no folder, or a folder that could not be looked into."""

    name: str
    """The person: name of the sub-folder, NFC; "" for what lies in none."""
    source: str
    """Path relative to the root with forward slashes; valid text, unique, odd characters as \\x0a or \\u2028."""
    num_bytes: int
    modified_ns: int
    refused: str | None
    """One of `REASONS` where it is already clear that there is nothing to read."""
    path: str
    """What to open: for a link, where it leads."""


class FolderSource:
    """The people of a folder and their files. Who there is, is settled when it is made."""

    def __init__(self, root: str) -> None:
        """Raises InputError when there is nothing to find."""
        self._root = _real_folder(root)
        self._prefix = self._root.rstrip("/") + "/"
        self._folders: dict[str, list[str]] = {}
        for path in _inside(self._root):
            if self._found("", path) is None:
                name = unicodedata.normalize("NFC", printable(os.path.basename(path)))
                self._folders.setdefault(name, []).append(path)
        if not any(True for name in self._folders for _ in self._walk(name)):
            raise InputError(f"crawl.root: {printable(root)}: {self._what_is_missing()}")

    def people(self) -> list[str]:
        """Names, sorted; also of people whose folder is empty. Two spellings of one name (NFC, NFD) are one person."""
        return sorted(self._folders)

    def find(self, name: str) -> Iterator[Found]:
        """Every file below the person's folders, in order of the source's bytes."""
        return _in_order(self._walk(name))

    def strays(self) -> Iterator[Found]:
        """What lies in no person's folder, all of it refused."""
        found = (self._found("", path) for path in _inside(self._root))
        return _in_order(dataclasses.replace(f, refused=f.refused or "no_person_folder") for f in found if f)

    def read(self, found: Found, max_bytes: int) -> bytes | Rejection:
        """The file's bytes, or why there are none. What was refused when found is never opened."""
        if found.refused is not None:
            return Rejection("crawl", found.refused)
        try:
            return _read(found.path, max_bytes)
        except OSError as error:
            return Rejection("crawl", _refusal(error))

    def _walk(self, name: str) -> Iterator[Found]:
        pending = list(self._folders[name])
        while pending:
            folder = pending.pop()
            try:
                paths = _inside(folder)
            except OSError as error:
                yield Found(name, self._source(folder) + "/", 0, 0, _refusal(error), folder)
                continue
            for path in paths:
                found = self._found(name, path)
                if found is None:
                    pending.append(path)
                else:
                    yield found

    def _found(self, name: str, path: str) -> Found | None:
        """What lies there; None for a folder."""
        try:
            target, refused, status = path, None, os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                return None
            if stat.S_ISLNK(status.st_mode):
                target, refused = self._follow(path)
                status = os.lstat(target)
        except OSError as error:
            return Found(name, self._source(path), 0, 0, _refusal(error), path)
        if refused is None and not stat.S_ISREG(status.st_mode):
            refused = "not_a_file"
        return Found(name, self._source(path), status.st_size, status.st_mtime_ns, refused, target)

    def _follow(self, link: str) -> tuple[str, str | None]:
        """Where a link leads; or the link itself, and why not to follow it."""
        try:
            target = os.path.realpath(link, strict=True)
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            return link, "dangling_link" if gone else _refusal(error)
        if not target.startswith(self._prefix) and target != self._root:
            return link, "unsafe_link"
        return (link, "linked_folder") if os.path.isdir(target) else (target, None)

    def _source(self, path: str) -> str:
        return printable(path.removeprefix(self._prefix))

    def _what_is_missing(self) -> str:
        if any(True for _ in self.strays()):
            return "no file in any sub-folder; photos are expected in PERSON/ below it (links to folders don't count)"
        return "no file in it"


def printable(path: str) -> str:
    """The path as valid text on one line. Different paths give different texts."""
    return _ESCAPED.sub(_escape, path)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _real_folder(root: str) -> str:
    if not root:
        raise InputError("crawl.root: names no folder")
    try:
        folder = os.path.realpath(root, strict=True)
        os.listdir(folder)
    except FileNotFoundError:
        raise InputError(f"crawl.root: {printable(root)}: no such folder") from None
    except NotADirectoryError:
        raise InputError(f"crawl.root: {printable(root)}: not a folder") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"crawl.root: {printable(root)}: cannot be read: {why}") from None
    return folder


def _inside(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in os.listdir(folder)]


def _in_order(found: Iterable[Found]) -> Iterator[Found]:
    return iter(sorted(found, key=lambda f: f.source.encode()))


def _refusal(error: OSError) -> str:
    return _REFUSALS.get(error.errno or 0, "unreadable")


def _read(path: str, max_bytes: int) -> bytes | Rejection:
    """What was a file when it was found may be a link or a pipe by now: never follow, never wait."""
    if os.path.realpath(path, strict=True) != path:
        return Rejection("crawl", "unsafe_link")
    descriptor = os.open(path, _OPEN)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Rejection("crawl", "not_a_file")
        if status.st_size > max_bytes:
            return Rejection("crawl", "too_large", status.st_size, max_bytes)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size) or Rejection("crawl", "empty")
    finally:
        os.close(descriptor)
