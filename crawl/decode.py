"""Bytes of one photo → upright sRGB pixels, once and strictly, or the reason why not.

The container is walked before Pillow sees it: a file that is cut, damaged, animated or made to take
for ever is refused, never half decoded. Data after the image's end is no fault. Of metadata only the
EXIF orientation and the ICC profile matter, and a broken one is no fault either. Knows nothing of
where the bytes come from.
"""

from __future__ import annotations

import functools
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as pil
from PIL import ImageChops, ImageCms, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from crawl.photo import Rejection
from crawl.store import suffix_of

Image = npt.NDArray[np.uint8]
"""height × width × 3, RGB in sRGB, the way up it is meant to be seen. Read-only."""

REASONS = {
    "empty": "no bytes",
    "format": "not JPEG, PNG, WebP or AVIF by its first bytes",
    "too_many_pixels": "value: pixels as the header says; threshold: `max_pixels`",
    "animated": "value: frames; threshold: 1. A JPEG with more pictures behind it (MPO) is its first one",
    "truncated": "the file ends before its image does, or was mended by an end marker after a cut",
    "too_many_scans": "value: scans of a progressive JPEG; threshold: 100. More only serve to cost time",
    "metadata_bomb": "over 65,536 segments, or compressed metadata that inflates past 1 MiB",
    "corrupt": "not what its first bytes promise, a checksum that fails, or a kind no browser shows",
    "out_of_memory": "the machine could not hold it",
}
"""Everything `decode` can say, and what it means."""

MAX_PIXELS = 64_000_000
_MAX_SCANS = 100
_MAX_SEGMENTS = 65_536
_MAX_JUNK = 65_536
"""Bytes between a JPEG's segments, which decoders skip one at a time."""
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_CHUNK, _CRC = struct.Struct(">I4s"), struct.Struct(">I")
_TURNS = {
    2: pil.Transpose.FLIP_LEFT_RIGHT,
    3: pil.Transpose.ROTATE_180,
    4: pil.Transpose.FLIP_TOP_BOTTOM,
    5: pil.Transpose.TRANSPOSE,
    6: pil.Transpose.ROTATE_270,
    7: pil.Transpose.TRANSVERSE,
    8: pil.Transpose.ROTATE_90,
}
"""EXIF orientation → what undoes it."""
_COLOUR_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_LATTICE = {"L": 256, "RGB": 17, "CMYK": 9}
_SRGB = ImageCms.createProfile("sRGB")


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Image | Rejection:
    """The photo's pixels, or why there are none (one of `REASONS`). Never raises for what the bytes hold."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "some library made Pillow fill what is missing with grey"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _open(content, max_pixels)
            image.load()
            _refuse_grey_fill(image, content)
            return _upright_srgb(image, content)
    except _Refusal as refusal:
        return Rejection("decode", *refusal.args)
    except MemoryError:
        return Rejection("decode", "out_of_memory")
    except Exception as error:
        return Rejection("decode", _reason(error))


def header_size(content: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int] | None:
    """(height, width) of the upright photo from its header; None where `decode` would refuse the file at sight."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _open(content, max_pixels)
    except Exception:  # `decode` counts it, with the reason
        return None
    width, height = image.size
    return (width, height) if _orientation(image.info.get("exif")) >= 5 else (height, width)


class _Refusal(Exception):
    """Arguments: reason, value, threshold."""


def _reason(error: Exception) -> str:
    """What an error of Pillow's means; that it is one of Pillow's is all we know of its type."""
    if isinstance(error, pil.DecompressionBombError):
        return "too_many_pixels"
    text = str(error)
    if "Decompressed data too large" in text or "Too much memory used in text" in text:
        return "metadata_bomb"
    if "truncated" in text or "Truncated data" in text:
        return "truncated"
    return "corrupt"


def _open(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The photo with its header read and found acceptable, its pixels not yet decoded."""
    if not content:
        raise _Refusal("empty")
    kind = suffix_of(content)
    if kind not in _READERS:
        raise _Refusal("format")
    image = _READERS[kind](content, max_pixels)
    _refuse_large(image.height * image.width, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise _Refusal("animated", frames, 1)
    return image


def _refuse_large(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise _Refusal("too_many_pixels", pixels, max_pixels)


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Not needed, and in Pillow a broken EXIF block can make this fail."""


def _read_jpeg(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    start, several = _first_scan(content)
    if content.rfind(b"\xff\xd9", start) < 0:
        raise _Refusal("truncated")
    scans = 1 + content.count(b"\xff\xda", start, content.find(b"\xff\xd9", start)) if several else 1
    if scans > _MAX_SCANS:
        raise _Refusal("too_many_scans", scans, _MAX_SCANS)
    return _Jpeg(BytesIO(content))


def _first_scan(content: bytes) -> tuple[int, bool]:
    """Where the first scan begins, and whether others follow: it lacks a component, or the frame is progressive."""
    position, junk, components = 2, _MAX_JUNK, b""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(content, position, position + junk)
        if found is None:
            raise _Refusal("corrupt" if position + junk < len(content) else "truncated")
        marker = content[found.start() + 1]
        junk -= found.start() - position
        position = found.end()
        if marker == 0xDA:
            return position, content[position + 2 : position + 3] != components
        if marker in (0xC0, 0xC1):
            components = content[position + 7 : position + 8]
        if marker != 0x01 and not 0xD0 <= marker <= 0xD9:
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
    raise _Refusal("metadata_bomb")


def _read_png(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Every chunk must be there, and those that make pixels must have the right checksum."""
    view, position = memoryview(content), 8
    for _ in range(_MAX_SEGMENTS):
        if position + 12 > len(content):
            raise _Refusal("truncated")
        length, kind = _CHUNK.unpack_from(content, position)
        end = position + 12 + length
        if end > len(content):
            raise _Refusal("truncated")
        if kind[:1].isupper() and _CRC.unpack_from(content, end - 4) != (zlib.crc32(view[position + 4 : end - 4]),):
            raise _Refusal("corrupt")
        if kind == b"IEND":
            return PngImageFile(BytesIO(content))
        position = end
    raise _Refusal("metadata_bomb")


def _read_webp(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The size comes first: libwebp takes memory for the whole canvas as soon as it is opened."""
    if 8 + int.from_bytes(content[4:8], "little") > len(content):
        raise _Refusal("truncated")
    _refuse_large(_webp_pixels(content), max_pixels)
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
        _refuse_large(int.from_bytes(height, "big") * int.from_bytes(width, "big"), max_pixels)
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
        raise _Refusal("truncated")


_READERS: dict[str, Callable[[bytes, int], ImageFile.ImageFile]] = {
    "jpg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    **({"avif": _read_avif} if features.check("avif") else {}),
}


def _refuse_grey_fill(image: pil.Image, content: bytes) -> None:
    """Refuse a JPEG that was cut and then given an end marker.

    libjpeg paints what is missing mid-grey and tells nobody. Where the last corner is just that grey,
    decode once more with bytes put in before the end marker: only a decoder short of data reads them.
    """
    width, height = image.size
    if not isinstance(image, JpegImageFile):
        return
    corner = np.asarray(image.crop((max(0, width - 8), max(0, height - 8), width, height)))
    if corner.min() < 127 or corner.max() > 128:
        return
    end = content.find(b"\xff\xd9", _first_scan(content)[0])
    again = _Jpeg(BytesIO(content[:end] + bytes(range(1, 129)) + content[end:]))
    again.load()
    if ImageChops.difference(image, again).getbbox() is not None:
        raise _Refusal("truncated")


def _upright_srgb(image: pil.Image, content: bytes) -> Image:
    colour, alpha = _split(image, content)
    colour = _to_srgb(colour, image.info.get("icc_profile"))
    if alpha is not None:
        white = pil.new("RGB", colour.size, "white")
        white.paste(colour, mask=alpha)
        colour = white
    turn = _TURNS.get(_orientation(image.info.get("exif")))
    return np.asarray(colour if turn is None else colour.transpose(turn))


def _split(image: pil.Image, content: bytes) -> tuple[pil.Image, pil.Image | None]:
    """Colour as L, RGB or CMYK of 8 bits, and alpha as L.

    Of 16 bits the upper eight are kept: what Pillow itself does for 16-bit RGB, RGBA and LA, while its
    conversion of 16-bit grey clips.
    """
    if image.mode.startswith("I;16"):
        deep, clear = np.asarray(image), image.info.get("transparency")
        alpha = None if clear is None else pil.fromarray(np.where(deep == clear, 0, 255).astype(np.uint8))
        return pil.fromarray((deep >> 8).astype(np.uint8)), alpha
    if image.mode == "RGB" and "transparency" in image.info and content[24] == 16:
        del image.info["transparency"]  # a colour of 16 bits: of 8 it would match others too
    if image.has_transparency_data:
        whole = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        return whole.convert(whole.mode[:-1]), whole.getchannel("A")
    return (image, None) if image.mode in _COLOUR_SPACES else (image.convert("L" if image.mode == "1" else "RGB"), None)


def _to_srgb(colour: pil.Image, profile: bytes | None) -> pil.Image:
    transform = _transform(profile, colour.mode) if profile else None
    if transform is not None:
        converted = ImageCms.applyTransform(colour, transform)
        assert converted is not None
        return converted
    return colour if colour.mode == "RGB" else colour.convert("RGB")


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, perceptual; None if it is broken, for another mode, or moves no colour by over 1."""
    try:
        icc = ImageCms.ImageCmsProfile(BytesIO(profile))
        if icc.profile.xcolor_space.strip() != _COLOUR_SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(icc, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        colours = _lattice(mode)
        converted = ImageCms.applyTransform(colours, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    assert converted is not None
    moved = np.abs(np.asarray(converted, dtype=np.int16) - np.asarray(colours.convert("RGB"), dtype=np.int16))
    return transform if moved.max() > 1 else None


def _lattice(mode: str) -> pil.Image:
    """An image of every combination of evenly spaced values."""
    levels = np.linspace(0, 255, _LATTICE[mode]).astype(np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * len(mode)), axis=-1)
    return pil.frombytes(mode, (colours.size // len(mode), 1), colours.tobytes())


def _orientation(exif: bytes | None) -> int:
    """EXIF tag 0x0112 of the first directory, read without looking at any other; 1 where there is none."""
    block = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, first)
        for number in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, first + 2 + 12 * number)
            if tag == 0x0112 and kind == 3:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
