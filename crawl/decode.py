"""Bytes of one photo → upright sRGB pixels, once and strictly, or the reason why not.

The container is walked before Pillow sees it: a file that is cut, damaged, animated or made to take
for ever is refused, never half decoded. Data after the image's end is no fault. Of metadata only the
EXIF orientation and the ICC profile matter, and a broken one is no fault either. Knows nothing of
where the bytes come from.
"""

from __future__ import annotations

import functools
import struct
import warnings
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as pil
from PIL import ImageCms, ImageFile

from crawl.containers import MAX_PIXELS, Refusal, open_photo, refuse_grey_fill
from crawl.photo import Rejection

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
_LATTICE = {"L": 256, "RGB": 17, "CMYK": 9}
"""Modes that a colour profile can be for → levels of each channel at which a profile is tried."""
_SRGB = ImageCms.createProfile("sRGB")


def decode(content: bytes, max_pixels: int = MAX_PIXELS) -> Image | Rejection:
    """The photo's pixels, or why there are none (one of `REASONS`). Never raises for what the bytes hold."""
    picture = decode_picture(content, max_pixels)
    return picture if isinstance(picture, Rejection) else pixels(picture)


def pixels(picture: pil.Image) -> Image | Rejection:
    """A decoded photo's pixels, copied."""
    try:
        return np.asarray(picture)
    except MemoryError:
        return Rejection("decode", "out_of_memory")


def decode_picture(content: bytes, max_pixels: int = MAX_PIXELS) -> pil.Image | Rejection:
    """As `decode`, but as Pillow holds it (mode RGB): what Pillow is to shrink or cut need not be copied twice.

    Without the file's `info`, of which Pillow would write the comment into any JPEG made of it.
    From one thread at a time: Python's warnings are quietened for the whole process meanwhile.
    """
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "some library made Pillow fill what is missing with grey"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = open_photo(content, max_pixels)
            image.load()
            refuse_grey_fill(image, content)
            picture = _upright_srgb(image, content)
            picture.info = {}
            return picture
    except Refusal as refusal:
        return Rejection("decode", *refusal.args)
    except MemoryError:
        return Rejection("decode", "out_of_memory")
    except Exception as error:
        return Rejection("decode", _reason(error))


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


def _upright_srgb(image: pil.Image, content: bytes) -> pil.Image:
    colour, alpha = _split(image, content)
    colour = _to_srgb(colour, image.info.get("icc_profile"))
    if alpha is not None:
        white = pil.new("RGB", colour.size, "white")
        white.paste(colour, mask=alpha)
        colour = white
    turn = _TURNS.get(_orientation(image.info.get("exif")))
    return colour if turn is None else colour.transpose(turn)


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
    return (image, None) if image.mode in _LATTICE else (image.convert("L" if image.mode == "1" else "RGB"), None)


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
