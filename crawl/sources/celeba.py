"""The `celeba` source: CelebA's image folder and `identity_CelebA.txt`, as its authors pack them or as Kaggle does.

A FolderSource whose people come from that file (`000001.jpg 2880` a line) instead of from sub-folders: whom a
number stands for is not known, so the name is `CelebA 2880`. Knows nothing of images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from crawl.errors import InputError
from crawl.source_config import CelebaSettings
from crawl.sources.folder import FolderSource, Found, printable

IDENTITIES = "identity_CelebA.txt"
REASONS = {
    "not_there": f"named in {IDENTITIES}, not in the image folder",
    "no_identity": f"in the image folder, not named in {IDENTITIES}",
    "malformed_line": f"a line of {IDENTITIES} that is no file name and number",
    "named_again": f"a line of {IDENTITIES} whose file an earlier line names",
}
"""Why a file or line yields no photo; beside those of crawl.sources.folder."""

_FOLDERS = {"in_the_wild": "img_celeba", "aligned": "img_align_celeba", "aligned_png": "img_align_celeba_png"}
_WITHIN = ("", "Img", "Anno", "CelebA", "CelebA/Img", "CelebA/Anno")
"""Where, below the root, the archives put things."""
_LINE = re.compile(rb"([A-Za-z0-9_-][A-Za-z0-9._-]{0,99})[ \t]+([0-9]{1,9})")


class CelebaSource(FolderSource):
    """The numbers of the file as people, and their images. Who there is, is settled when it is made."""

    def __init__(self, settings: CelebaSettings) -> None:
        """Raises InputError when there is no image folder or no file of identities."""
        self._root = _images(settings.root, _FOLDERS[settings.variant])
        self._prefix = self._root.rstrip("/") + "/"
        self._suffix = ".png" if settings.variant == "aligned_png" else ""
        self._files: dict[str, list[str]] = {}
        self._named: set[str] = set()
        self._lines: list[Found] = []
        self._read_identities(_identities(settings.root))
        if not self._files:
            raise InputError(f"crawl.root: {printable(settings.root)}: {IDENTITIES} names no image")

    def people(self) -> list[str]:
        """Names, sorted."""
        return sorted(self._files)

    def find(self, name: str) -> Iterator[Found]:
        """The person's images in order of their names, also those that are not there."""
        for file in sorted(self._files[name]):
            path = self._prefix + file
            found = self._found(name, path) if os.path.lexists(path) else Found(name, file, 0, 0, "not_there", path)
            yield found or Found(name, file + "/", 0, 0, "not_a_file", path)

    def strays(self) -> Iterator[Found]:
        """Lines that say nothing, then what lies in the image folder and is in no line; all of it refused."""
        yield from self._lines
        for file in sorted(os.listdir(self._root), key=os.fsencode):
            if file not in self._named:
                path = self._prefix + file
                yield Found("", printable(file), 0, 0, "no_identity", path)

    def _read_identities(self, path: str) -> None:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                match = _LINE.fullmatch(line.strip())
                if match:
                    self._note(match[1].decode(), int(match[2]), number, path)
                elif line.strip():
                    self._refuse(number, "malformed_line", path)

    def _note(self, file: str, person: int, number: int, path: str) -> None:
        if self._suffix:
            file = os.path.splitext(file)[0] + self._suffix
        if file in self._named:
            self._refuse(number, "named_again", path)
            return
        self._named.add(file)
        self._files.setdefault(f"CelebA {person}", []).append(file)

    def _refuse(self, number: int, reason: str, path: str) -> None:
        self._lines.append(Found("", f"{IDENTITIES}: line {number}", 0, 0, reason, path))


def _images(root: str, name: str) -> str:
    for within in _WITHIN:
        folder = os.path.join(root, within, name)
        if os.path.isdir(os.path.join(folder, name)):  # Kaggle's archive has the folder twice
            folder = os.path.join(folder, name)
        if os.path.isdir(folder):
            return os.path.realpath(folder)
    raise InputError(f"crawl.root: {printable(root)}: no folder {name} in it, nor in Img/")


def _identities(root: str) -> str:
    for within in _WITHIN:
        path = os.path.join(root, within, IDENTITIES)
        if os.path.isfile(path):
            return path
    raise InputError(f"crawl.root: {printable(root)}: no {IDENTITIES} in it, nor in Anno/")
