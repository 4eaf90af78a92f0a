"""Tar files as strict as they are simple: ustar, regular files, one fixed form of header.

A header has no freedom (mtime 0, uid and gid 0, mode 0644), so it is a function of name and size, and
reading is comparing. Knows which members a sample may have; knows nothing of what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import IO

from crawl.errors import InputError
from shards.format.sample import Sample

BLOCK = 512
END = bytes(2 * BLOCK)
"""The two zero blocks a tar ends with; ours end right behind them."""
MAX_MEMBER_BYTES = 64 * 2**20
REQUIRED = ("face.jpg", "jpg", "json")
_NAME = re.compile(r"([0-9a-f]{32})\.(face\.jpg|jpg|json|[a-z0-9][a-z0-9_-]{0,31}\.npy)")
_SIZE = re.compile(rb"[0-7]{11}\0")
_MODE_UID_GID = b"0000644\0" + 2 * b"0000000\0"
_MTIME = b"00000000000\0"
_REST = (b"0" + bytes(100) + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
_FIXED_SUM = sum(_MODE_UID_GID + _MTIME + _REST) + 8 * ord(" ")
_KINDS = {"1": "a hard link", "2": "a symbolic link", "3": "a device", "4": "a device", "5": "a folder", "6": "a pipe"}


class ShardError(InputError):
    """A shard is not what the index says, or holds what no shard of ours may hold."""

    def __init__(self, shard: str, reason: str) -> None:
        super().__init__(shard, reason)
        self.shard = shard
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.shard}: {self.reason}"


def header(name: str, num_bytes: int) -> bytes:
    """The 512 bytes in front of a member's content."""
    name_field, size_field = name.encode("ascii"), b"%011o\0" % num_bytes
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(name_field) + sum(size_field))
    return b"".join((name_field.ljust(100, b"\0"), _MODE_UID_GID, size_field, _MTIME, checksum, _REST))


def padded(num_bytes: int) -> int:
    return -num_bytes % BLOCK + num_bytes


def pack(sample: Sample) -> bytes:
    """The sample's part of a tar; raises as `parts` does."""
    return b"".join(parts(sample))


def parts(sample: Sample) -> list[bytes]:
    """What the sample's part of a tar consists of, in order: joining it would copy every picture."""
    return packed(sample.members())


def packed(members: Sequence[tuple[str, bytes]], required: Sequence[str] = REQUIRED) -> list[bytes]:
    """Headers, contents and padding of members in order of name, all of one key and with the `required` suffixes.

    Raises ValueError for anything that `unpack` would refuse: nobody writes what nobody can read.
    """
    for name, _ in members:
        if not _NAME.fullmatch(name):
            raise ValueError(f"member name {_short(name)} is not allowed")
    _check_names([name for name, _ in members], required)
    pieces: list[bytes] = []
    for name, content in members:
        if len(content) > MAX_MEMBER_BYTES:
            raise ValueError(f"{name}: {len(content):,} bytes, a member may have {MAX_MEMBER_BYTES:,}")
        pieces += (header(name, len(content)), content, bytes(-len(content) % BLOCK))
    return pieces


def sample_size(sample: Sample) -> int:
    """Bytes the sample takes in a tar, with headers and padding, without packing it."""
    return sum(BLOCK + padded(len(content)) for _, content in sample.members())


def unpack(region: bytes, shard: str, required: Sequence[str] = REQUIRED) -> tuple[str, Mapping[str, bytes]]:
    """The inverse of `pack`: (key, suffix → content).

    Raises ShardError, naming `shard`, for anything that `pack` does not produce.
    """
    names, contents, at = [], [], 0
    while at < len(region):
        name, num_bytes = _read_header(region[at : at + BLOCK], shard)
        start, end = at + BLOCK, at + BLOCK + num_bytes
        at = start + padded(num_bytes)
        if at > len(region) or region[end:at] != bytes(at - end):
            raise ShardError(shard, f"{name} is torn, or followed by something other than zeros")
        names.append(name)
        contents.append(region[start:end])
    try:
        key = _check_names(names, required)
    except ValueError as error:
        raise ShardError(shard, str(error)) from None
    return key, {name[len(key) + 1 :]: content for name, content in zip(names, contents, strict=True)}


def regions(file: IO[bytes], num_bytes: int, shard: str) -> Iterator[tuple[str, int, int]]:
    """(key, offset, bytes) of each sample of a whole tar, by its headers alone.

    Raises ShardError at the first header that is not as `pack` writes it, and for a wrong end.
    """
    at, start, key = 0, 0, ""
    while at < num_bytes - len(END):
        file.seek(at)
        name, size = _read_header(file.read(BLOCK), shard)
        if key and name[: len(key)] != key:
            yield key, start, at - start
            start = at
        key = name.partition(".")[0]
        at += BLOCK + padded(size)
    file.seek(min(at, num_bytes))
    if file.read(len(END) + 1) != END:
        raise ShardError(shard, f"does not end at byte {at + len(END):,} with two blocks of zeros: torn, or added to")
    if key:
        yield key, start, at - start


def _check_names(names: Sequence[str], required: Sequence[str]) -> str:
    """The one key of a sample's names; ValueError when they are not one whole sample."""
    key = names[0].partition(".")[0] if names else ""
    for name in names:
        if name[: len(key)] != key:
            raise ValueError(f"{name} stands among the members of {key}")
    missing = [suffix for suffix in required if f"{key}.{suffix}" not in names]
    if missing:
        raise ValueError(f"{key or 'a sample'} has no {' and no '.join(missing)}")
    for before, name in pairwise(names):
        if name <= before:
            raise ValueError(f"{name} is {'there twice' if name == before else 'out of order'}")
    return key


def _read_header(block: bytes, shard: str) -> tuple[str, int]:
    name = block[:100].rstrip(b"\0").decode("ascii", "replace")
    if _SIZE.fullmatch(block[124:136]) and _NAME.fullmatch(name):
        num_bytes = int(block[124:135], 8)
        if num_bytes <= MAX_MEMBER_BYTES and block == header(name, num_bytes):
            return name, num_bytes
    raise ShardError(shard, _what_is_wrong(block, name))


def _what_is_wrong(block: bytes, name: str) -> str:
    if len(block) < BLOCK:
        return "is torn inside a member's header"
    if not block.strip(b"\0"):
        return "ends before its last sample"
    stored = block[148:156].strip(b" \0")
    if b"%o" % (sum(block) - sum(block[148:156]) + 8 * ord(" ")) != stored.lstrip(b"0"):
        return f"has a damaged header where {_short(name)} should be"
    kind = chr(block[156])
    if kind not in "0\0":
        return f"{_short(name)} is {_KINDS.get(kind, f'of tar type {kind!r}')}, not a regular file"
    if not _NAME.fullmatch(name) or block[345:500].strip(b"\0"):
        return f"member name {_short(name)} is not allowed"
    if not _SIZE.fullmatch(block[124:136]) or int(block[124:135], 8) > MAX_MEMBER_BYTES:
        return f"{name} claims more than {MAX_MEMBER_BYTES:,} bytes"
    return f"{name} has a mode, owner or time that this format does not know"


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}…")
