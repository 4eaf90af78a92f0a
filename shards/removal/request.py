"""What is asked to be taken down: an identity, an address, a domain, a file's SHA-256; one by one or as a list.

Knows nothing of what is in a dataset.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from crawl.errors import InputError
from crawl.fetching.hosts import host_of
from crawl.photo import IDENTITY_KEY_LENGTH, identity_key
from crawl.policy.canonical import BadUrl, canonical
from crawl.tombstones import Item

RequestKind = Literal["identity", "url", "domain", "sha256"]
KINDS: tuple[RequestKind, ...] = ("identity", "url", "domain", "sha256")
_SHA256 = re.compile("[0-9a-f]{64}")
_IDENTITY = re.compile(f"[0-9a-f]{{{IDENTITY_KEY_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to be taken down."""

    kind: RequestKind
    said: str
    """As it was given: for messages."""
    text: str
    """In its one spelling; of an identity its key."""

    @property
    def item(self) -> Item:
        return self.kind, self.text

    def __str__(self) -> str:
        return f"{self.kind} {self.said}"


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that may be repeated and mixed."""
    about = {
        "identity": "a person: the name as in identities.parquet, or the identity's key",
        "url": "a photo: its address, or that of its page",
        "domain": "every photo from this host and the hosts below it",
        "sha256": "a photo: SHA-256 of the original's bytes, as in KEY.json",
    }
    for kind in KINDS:
        parser.add_argument(f"--{kind}", action="append", default=[], metavar=kind.upper(), help=about[kind])
    parser.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="a UTF-8 text file, one request a line: its kind, a space, the rest, as in `url https://a.example/1.jpg`; "
        "lines that start with # are comments",
    )


def requests_of(parsed: argparse.Namespace) -> list[Request]:
    """Each once, in the order given. Raises InputError for one that cannot be, or when there is none."""
    found = [request(kind, text) for kind in KINDS for text in getattr(parsed, kind)]
    for path in parsed.list:
        found += _of_list(path)
    if not found:
        raise InputError("nothing to take down: give --identity, --url, --sha256, --domain or --list")
    return list({r.item: r for r in found}.values())


def request(kind: RequestKind, said: str) -> Request:
    """Raises InputError for text that is none of its kind."""
    said = said.strip()
    if not said:
        raise InputError(f"--{kind}: nothing is named")
    if kind == "identity":
        return Request(kind, said, said if _IDENTITY.fullmatch(said) else identity_key(said))
    if kind == "sha256":
        if not _SHA256.fullmatch(said.lower()):
            raise InputError(f"--sha256: {said[:80]!r} is not 64 hexadecimal digits")
        return Request(kind, said, said.lower())
    try:
        if kind == "url":
            return Request(kind, said, canonical(said))
        if re.search("[/?#:@ ]", said):
            raise InputError(f"--domain: {said[:80]!r} is no domain: give only the host, such as photos.example.org")
        return Request(kind, said, host_of(f"http://{said}/"))
    except BadUrl as error:
        raise InputError(f"--{kind}: {error}") from None


def _of_list(path: str) -> Iterator[Request]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise InputError(f"--list: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--list: {path}: not UTF-8") from None
    for number, line in enumerate(lines, start=1):
        kind, _, said = line.strip().partition(" ")
        if not kind or kind.startswith("#"):
            continue
        if kind not in KINDS:
            raise InputError(f"--list: {path}, line {number}: starts with {kind[:40]!r}, not with {', '.join(KINDS)}")
        try:
            yield request(kind, said)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
