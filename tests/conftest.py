"""Fixtures for every package: the shared folder of real weights and photos, and a table of hostile images."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CUTS = range(1, 11)
"""Elevenths of a file at which it is cut."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights (`models/`) and real photos (`photos/`), which are never in the repository."""
    folder = Path(os.environ.get("PERSONAE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip("no real weights and photos here: PERSONAE_SHARED names no folder and there is no ../shared")
    return folder


@pytest.fixture(scope="session")
def hostile_images() -> dict[str, tuple[bytes, str | None]]:
    """Name → (bytes, the reason `crawl.decode` must give, or None where pixels must come out)."""
    picture = _picture()
    files = {
        "jpeg": _save(picture, "JPEG", quality=90),
        "jpeg progressive": _save(picture, "JPEG", quality=90, progressive=True),
        "png": _save(picture, "PNG"),
        "webp": _save(picture, "WEBP", quality=80),
        "webp lossless": _save(picture, "WEBP", lossless=True),
        "avif": _save(picture, "AVIF"),
    }
    table: dict[str, tuple[bytes, str | None]] = {name: (content, None) for name, content in files.items()}
    for name, content in files.items():
        for cut in CUTS:
            table[f"{name} cut at {cut}/11"] = content[: len(content) * cut // 11], "truncated"
        table[f"{name} without its last byte"] = content[:-1], "truncated"
    table |= _not_images(picture)
    table |= _animated(picture)
    table |= _bombs(files)
    table |= _damaged(files)
    table |= _odd_but_good(picture, files)
    return table


def _picture(height: int = 96, width: int = 144) -> Image.Image:
    """Smooth colours with an odd corner, so that no two ways up look alike."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x * 3 + y * 5) % 256], axis=-1).astype(np.uint8)
    pixels[: height // 4, : width // 3] = (250, 40, 10)
    return Image.fromarray(pixels)


def _save(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _after_ihdr(png: bytes, *chunks: bytes) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]


def _before_iend(png: bytes, *chunks: bytes) -> bytes:
    return png[:-12] + b"".join(chunks) + png[-12:]


def _zeros(num_bytes: int) -> bytes:
    """That many zero bytes, deflated piece by piece."""
    deflate, piece = zlib.compressobj(1), bytes(1 << 20)
    whole = [deflate.compress(piece[: min(len(piece), num_bytes - at)]) for at in range(0, num_bytes, len(piece))]
    return b"".join([*whole, deflate.flush()])


def _black_png(side: int, bits: int) -> bytes:
    """A grey PNG of side × side whose pixels are all there, in a few kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, bits, 0, 0, 0, 0)
    rows = _zeros(side * (1 + (side * bits + 7) // 8))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _not_images(picture: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    small = picture.resize((12, 8))
    contents = {
        "text": b"no image at all",
        "html": b"<!DOCTYPE html><html><body><h1>403 Forbidden</h1></body></html>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(99),
        "pdf": b"%PDF-1.7\n",
        "zip": b"PK\5\6" + bytes(18),
        "zeros": bytes(4096),
        "one byte of jpeg": b"\xff",
        "png signature cut": b"\x89PNG\r\n",
        **{kind.lower(): _save(small, kind) for kind in ("GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PCX")},
        "animated gif": _save(small, "GIF", save_all=True, append_images=[small.rotate(180)]),
    }
    return {"empty": (b"", "empty"), **{name: (content, "format") for name, content in contents.items()}}


def _animated(picture: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    other = picture.transpose(Image.Transpose.ROTATE_180)
    options = {"save_all": True, "append_images": [other], "duration": 100}
    return {
        "animated webp": (_save(picture, "WEBP", **options), "animated"),
        "animated png": (_save(picture, "PNG", **options), "animated"),
        "animated png behind a still": (_save(picture, "PNG", default_image=True, **options), "animated"),
        "animated avif": (_save(picture, "AVIF", **options), "animated"),
    }


def _bombs(files: dict[str, bytes]) -> dict[str, tuple[bytes, str | None]]:
    jpeg, png, webp, lossless = files["jpeg"], files["png"], files["webp"], files["webp lossless"]
    sof, sos = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    scan = files["jpeg progressive"]
    last = scan.rindex(b"\xff\xda")
    bomb = b"\0\0" + _zeros(8 << 20)
    wide = struct.pack("<I", 16383 | 16383 << 14)
    return {
        "png of 20000²": (_black_png(20_000, 1), "too_many_pixels"),
        "png of 13000²": (_black_png(13_000, 8), "too_many_pixels"),
        "avif of 20000²": (_wide_avif(files["avif"]), "too_many_pixels"),
        "jpeg of 65500²": (jpeg[: sof + 5] + b"\xff\xdc\xff\xdc" + jpeg[sof + 9 :], "too_many_pixels"),
        "webp of 16383²": (webp[:26] + b"\xff\x3f\xff\x3f" + webp[30:], "too_many_pixels"),
        "webp lossless of 16384²": (lossless[:21] + wide + lossless[25:], "too_many_pixels"),
        "png with a zTXt bomb": (_after_ihdr(png, _chunk(b"zTXt", b"Comment" + bomb)), "metadata_bomb"),
        "png with a zTXt bomb at its end": (_before_iend(png, _chunk(b"zTXt", b"Comment" + bomb)), "metadata_bomb"),
        "png with an iTXt bomb": (_after_ihdr(png, _chunk(b"iTXt", b"C\0\1\0\0\0" + bomb[2:])), "metadata_bomb"),
        "png with an iCCP bomb": (_after_ihdr(png, _chunk(b"iCCP", b"p" + bomb)), "metadata_bomb"),
        "png of 70000 chunks": (_after_ihdr(png, _chunk(b"teST", b"") * 70_000), "metadata_bomb"),
        "jpeg of 70000 segments": (jpeg[:2] + b"\xff\xfe\0\2" * 70_000 + jpeg[2:], "metadata_bomb"),
        "jpeg with 2 MB of junk between its segments": (jpeg[:sos] + bytes(2 << 20) + jpeg[sos:], "corrupt"),
        "jpeg with junk between all of its segments": (
            jpeg[:sos] + (bytes(60_000) + b"\xff\xfe\0\2") * 30 + jpeg[sos:],
            "corrupt",
        ),
        "jpeg of 2 MB of 0xff": (b"\xff\xd8" + b"\xff" * (2 << 20), "corrupt"),
        "jpeg of 500 scans": (scan[:last] + scan[last:-2] * 500 + scan[-2:], "too_many_scans"),
    }


def _wide_avif(avif: bytes) -> bytes:
    at = avif.index(b"ispe") + 8
    return avif[:at] + struct.pack(">II", 20_000, 20_000) + avif[at + 8 :]


def _damaged(files: dict[str, bytes]) -> dict[str, tuple[bytes, str | None]]:
    jpeg, png, webp = files["jpeg"], files["png"], files["webp"]
    sof = jpeg.index(b"\xff\xc0")
    in_pixels = png.index(b"IDAT") + 40
    return {
        "jpeg cut, then ended": (jpeg[: len(jpeg) // 2] + b"\xff\xd9", "truncated"),
        "jpeg of 12 bits": (jpeg[: sof + 4] + b"\x0c" + jpeg[sof + 5 :], "corrupt"),
        "jpeg of no height": (jpeg[: sof + 5] + b"\0\0" + jpeg[sof + 7 :], "corrupt"),
        "jpeg without a frame": (jpeg[:sof] + jpeg[sof + 19 :], "corrupt"),
        "jpeg signature": (b"\xff\xd8\xff\xe0", "truncated"),
        "png with a flipped bit": (png[:in_pixels] + bytes([png[in_pixels] ^ 4]) + png[in_pixels + 1 :], "corrupt"),
        "png without pixels": (png[:33] + png[-12:], "corrupt"),
        "png of no width": (png[:8] + _chunk(b"IHDR", bytes(4) + png[20:29]) + png[33:], "corrupt"),
        "webp of noise": (webp[:30] + (bytes(range(256)) * 99)[: len(webp) - 30], "corrupt"),
    }


def _odd_but_good(picture: Image.Image, files: dict[str, bytes]) -> dict[str, tuple[bytes, str | None]]:
    jpeg = files["jpeg"]
    page = b"<html><script>alert(1)</script></html>"
    archive = b"PK\3\4" + bytes(26) + b"PK\5\6" + bytes(18)
    contents = {
        **{f"{name} and a zip": content + archive for name, content in files.items()},
        **{f"{name} and html": content + page for name, content in files.items()},
        "jpeg with html in a comment": jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(page)) + page + jpeg[2:],
        "png that is animated by no frame": _after_ihdr(files["png"], _chunk(b"acTL", bytes(8))),
        "mpo": _save(picture, "MPO", save_all=True, append_images=[picture.rotate(180)]),
        "1×1": _save(picture.resize((1, 1)), "PNG"),
        "1×20000": _save(picture.resize((1, 20_000)), "JPEG"),
        "20000×1": _save(picture.resize((20_000, 1)), "PNG"),
        "jpeg with a grey corner": _save(Image.new("RGB", (160, 160), (128, 128, 128)), "JPEG"),
        "cmyk jpeg": _save(picture.convert("CMYK"), "JPEG"),
        "palette png": _save(picture.quantize(16), "PNG"),
        "1-bit png": _save(picture.convert("1"), "PNG"),
        "transparent png": _save(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), "PNG"),
        "jpeg with a broken profile": _save(picture, "JPEG", icc_profile=b"no profile" * 20),
        "jpeg with broken exif": _save(picture, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    }
    return {name: (content, None) for name, content in contents.items()}
