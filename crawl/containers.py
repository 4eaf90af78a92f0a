"""The four containers a photo may come in: JPEG, PNG, WebP, AVIF, walked before Pillow sees them.

What is cut, animated, too large or made to take for ever is refused from its own structure. Knows nothing
of colours, orientation, or what becomes of a refusal.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

from PIL import Image as pil
from PIL import ImageChops, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from crawl.store import suffix_of

MAX_PIXELS = 64_000_000
_MAX_SCANS = 100
_MAX_SEGMENTS = 65_536
_MAX_JUNK = 65_536
"""Bytes between a JPEG's segments, which decoders skip one at a time."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's markers before a frame's size: SOF0 to SOF15 without DHT, JPG and DAC."""
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_CHUNK, _CRC = struct.Struct(">I4s"), struct.Struct(">I")


class Refusal(Exception):
    """Arguments: reason, value, threshold."""


def open_photo(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The photo with its header read and found acceptable, its pixels not yet decoded."""
    if not content:
        raise Refusal("empty")
    kind = suffix_of(content)
    if kind not in _READERS:
        raise Refusal("format")
    image = _READERS[kind](content, max_pixels)
    _acceptable(image.height * image.width, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise Refusal("animated", frames, 1)
    return image


def header_pixels(content: bytes, max_pixels: int = MAX_PIXELS) -> int:
    """height × width from the header, in a hundredth of the time that decoding takes; 0 for what is no whole photo."""
    try:
        if suffix_of(content) == "jpg":
            return _acceptable(_whole_jpeg(content).pixels, max_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = open_photo(content, max_pixels)
        return image.height * image.width
    except Exception:  # `decode` counts it, with the reason
        return 0


def _acceptable(pixels: int, max_pixels: int) -> int:
    if pixels > max_pixels:
        raise Refusal("too_many_pixels", pixels, max_pixels)
    return pixels


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Not needed, and in Pillow a broken EXIF block can make this fail."""


class _Scan(NamedTuple):
    """The first scan of a JPEG."""

    start: int
    several: bool
    """Whether others follow: it lacks a component, or the frame is progressive."""
    pixels: int
    """height × width, as the frame before it says."""


def _read_jpeg(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    _whole_jpeg(content)
    return _Jpeg(BytesIO(content))


def _whole_jpeg(content: bytes) -> _Scan:
    scan = _first_scan(content)
    if content.rfind(b"\xff\xd9", scan.start) < 0:
        raise Refusal("truncated")
    if scan.several:
        scans = 1 + content.count(b"\xff\xda", scan.start, content.find(b"\xff\xd9", scan.start))
        if scans > _MAX_SCANS:
            raise Refusal("too_many_scans", scans, _MAX_SCANS)
    return scan


def _first_scan(content: bytes) -> _Scan:
    position, junk, components, pixels = 2, _MAX_JUNK, b"", 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(content, position, position + junk)
        if found is None:
            raise Refusal("corrupt" if position + junk < len(content) else "truncated")
        marker = content[found.start() + 1]
        junk -= found.start() - position
        position = found.end()
        if marker == 0xDA:
            return _Scan(position, content[position + 2 : position + 3] != components, pixels)
        if marker in (0xC0, 0xC1):
            components = content[position + 7 : position + 8]
        if marker in _FRAMES:
            height, width = content[position + 3 : position + 5], content[position + 5 : position + 7]
            pixels = int.from_bytes(height, "big") * int.from_bytes(width, "big")
        if marker != 0x01 and not 0xD0 <= marker <= 0xD9:
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
    raise Refusal("metadata_bomb")


def _read_png(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Every chunk must be there, and those that make pixels must have the right checksum."""
    view, position = memoryview(content), 8
    for _ in range(_MAX_SEGMENTS):
        if position + 12 > len(content):
            raise Refusal("truncated")
        length, kind = _CHUNK.unpack_from(content, position)
        end = position + 12 + length
        if end > len(content):
            raise Refusal("truncated")
        if kind[:1].isupper() and _CRC.unpack_from(content, end - 4) != (zlib.crc32(view[position + 4 : end - 4]),):
            raise Refusal("corrupt")
        if kind == b"IEND":
            return PngImageFile(BytesIO(content))
        position = end
    raise Refusal("metadata_bomb")


def _read_webp(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The size comes first: libwebp takes memory for the whole canvas as soon as it is opened."""
    if 8 + int.from_bytes(content[4:8], "little") > len(content):
        raise Refusal("truncated")
    _acceptable(_webp_pixels(content), max_pixels)
    return WebPImageFile(BytesIO(content))


def _webp_pixels(content: bytes) -> int:
    """height × width of the canvas, in the spelling of each of the three kinds; what is no WebP may say anything."""
    number = int.from_bytes
    if content[12:16] == b"VP8X":
        return (number(content[24:27], "little") + 1) * (number(content[27:30], "little") + 1)
    if content[12:16] == b"VP8L":
        packed = number(content[21:25], "little")
        return ((packed & 0x3FFF) + 1) * ((packed >> 14 & 0x3FFF) + 1)
    return (number(content[26:28], "little") & 0x3FFF) * (number(content[28:30], "little") & 0x3FFF)


_AVIF_EXIF = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
_AVIF_SIZE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)


def _read_avif(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """AVIF says in its own boxes which way is up; its EXIF is hidden, as a broken one would stop Pillow."""
    _refuse_cut_boxes(content)
    for width, height in _AVIF_SIZE.findall(content):
        _acceptable(int.from_bytes(height, "big") * int.from_bytes(width, "big"), max_pixels)
    return AvifImageFile(BytesIO(_AVIF_EXIF.sub(rb"\1none", content)))


def _refuse_cut_boxes(content: bytes) -> None:
    position = 0
    for _ in range(_MAX_SEGMENTS):
        if position + 8 > len(content):
            break
        length, kind = _CHUNK.unpack_from(content, position)
        if kind not in (b"ftyp", b"meta", b"moov", b"mdat", b"free") or length < 8:
            return  # data behind the image, or a spelling that libavif may judge
        position += length
    if position > len(content):
        raise Refusal("truncated")


_READERS: dict[str, Callable[[bytes, int], ImageFile.ImageFile]] = {
    "jpg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    **({"avif": _read_avif} if features.check("avif") else {}),
}


def refuse_grey_fill(image: pil.Image, content: bytes) -> None:
    """Refuse a JPEG that was cut and then given an end marker.

    libjpeg paints what is missing mid-grey and tells nobody. Where the last corner is just that grey,
    decode once more with bytes put in before the end marker: only a decoder short of data reads them.
    """
    width, height = image.size
    if not isinstance(image, JpegImageFile):
        return
    corner = image.crop((max(0, width - 8), max(0, height - 8), width, height))
    levels: list[Any] = [level for band in corner.split() for level in band.getextrema()]
    if min(levels) < 127 or max(levels) > 128:
        return
    end = content.find(b"\xff\xd9", _first_scan(content).start)
    again = _Jpeg(BytesIO(content[:end] + bytes(range(1, 129)) + content[end:]))
    again.load()
    if ImageChops.difference(image, again).getbbox() is not None:
        raise Refusal("truncated")
