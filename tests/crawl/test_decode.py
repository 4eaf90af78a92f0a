"""Every refusal has its exact reason, every accepted photo its exact pixels, and nothing raises or hangs."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from crawl.containers import header_pixels
from crawl.decode import REASONS, decode
from crawl.photo import Rejection

REPOSITORY = Path(__file__).resolve().parents[2]
TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""EXIF orientation → what a camera held that way stores of an upright picture."""


@pytest.fixture(scope="module")
def pixels():
    """64 × 96, smooth, no two ways up alike."""
    y, x = np.mgrid[0:64, 0:96]
    picture = np.stack([x * 2, y * 3, (x + y) % 200], axis=-1).astype(np.uint8)
    picture[:20, :20] = (250, 30, 10)
    return picture


def save(picture, kind, **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))).save(
        file, kind, **options
    )
    return file.getvalue()


def lossless(picture, kind, **options):
    return save(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}), **options)


def far(image, expected):
    """Largest difference in levels."""
    assert isinstance(image, np.ndarray), image
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    return int(np.abs(image.astype(int) - expected).max())


def test_the_hostile_table(hostile_images):
    wrong = {}
    for name, (content, reason) in hostile_images.items():
        start = time.perf_counter()
        result = decode(content)
        seconds = time.perf_counter() - start
        got = result.reason if isinstance(result, Rejection) else None
        if got != reason or seconds > 10:
            wrong[name] = f"{got} instead of {reason} in {seconds:.1f} s"
    assert not wrong


def test_the_table_shows_every_reason(hostile_images):
    shown = {reason for _, reason in hostile_images.values() if reason is not None}
    assert shown == set(REASONS) - {"out_of_memory"}


def test_bombs_take_no_memory(hostile_images, tmp_path):
    """In a process that may not hold even one of the larger pictures."""
    names = [n for n, (_, reason) in hostile_images.items() if reason in ("too_many_pixels", "metadata_bomb")]
    for number, name in enumerate(names):
        (tmp_path / str(number)).write_bytes(hostile_images[name][0])
    program = (
        "import pathlib, resource, sys; from crawl.decode import decode\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "for n in range(int(sys.argv[2])): print(decode((pathlib.Path(sys.argv[1]) / str(n)).read_bytes()).reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(len(names))],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == [hostile_images[n][1] for n in names], done.stderr


def test_values_and_thresholds(hostile_images):
    assert decode(hostile_images["png of 13000²"][0]) == Rejection("decode", "too_many_pixels", 169e6, 64e6)
    assert decode(hostile_images["webp of 16383²"][0]) == Rejection("decode", "too_many_pixels", 16383**2, 64e6)
    assert decode(hostile_images["webp lossless of 16384²"][0]) == Rejection("decode", "too_many_pixels", 2**28, 64e6)
    assert decode(hostile_images["animated webp"][0]) == Rejection("decode", "animated", 2, 1)
    assert decode(hostile_images["jpeg of 500 scans"][0]).threshold == 100


def test_the_pixel_limit_is_inclusive(pixels):
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        assert isinstance(decode(save(pixels, kind), 64 * 96), np.ndarray)
        assert decode(save(pixels, kind), 64 * 96 - 1) == Rejection("decode", "too_many_pixels", 64 * 96, 64 * 96 - 1)


def test_a_switched_on_grey_fill_is_noticed(pixels, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(AssertionError, match="grey"):
        decode(save(pixels, "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_formats_give_the_very_pixels(kind, pixels):
    assert far(decode(lossless(pixels, kind)), pixels) == 0


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_plain_jpeg_is_what_pillow_makes_of_it(pixels, options):
    content = save(pixels, "JPEG", **options)
    assert far(decode(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))) == 0


def test_data_behind_the_image_changes_nothing(hostile_images):
    for name in ("jpeg", "jpeg progressive", "png", "webp", "avif"):
        clean = decode(hostile_images[name][0])
        assert far(decode(hostile_images[f"{name} and a zip"][0]), clean) == 0
        assert far(decode(hostile_images[f"{name} and html"][0]), clean) == 0


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation(orientation, kind, order, pixels):
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    stored = TURNS[orientation](pixels)
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    content = lossless(stored, kind, exif=exif.tobytes(), **options.get(kind, {}))
    assert header_pixels(content) == 64 * 96
    assert far(decode(content), pixels) <= {"JPEG": 6, "AVIF": 6}.get(kind, 0)


def test_the_same_pixels_in_all_orientations_are_identical(pixels):
    """No resampling on the way: the eight files hold the same pixels, turned."""
    images = []
    for orientation, turn in {1: lambda a: a, **TURNS}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        images.append(decode(lossless(turn(pixels), "PNG", exif=exif.tobytes())))
    assert all(np.array_equal(image, pixels) for image in images)


BROKEN_EXIF = {
    "nothing": b"Exif\0\0",
    "noise": b"Exif\0\0" + bytes(range(255)),
    "offset out of bounds": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "entries out of bounds": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\x01" * 9,
    "orientation of 99": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01\3\0\1\0\0\0\x63\0\0\0\0\0\0\0",
    "orientation as text": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01\2\0\1\0\0\0\6\0\0\0\0\0\0\0",
    "resolution of one byte": b"Exif\0\0II*\0\x08\0\0\0\2\0\x1a\1\1\0\1\0\0\0\0\0\0\0\x28\1\3\0\1\0\0\0\2" + bytes(7),
    "circle of directories": b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0",
}


@pytest.mark.parametrize("name", BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_is_no_reason_to_fail(name, kind, pixels):
    content = save(pixels, kind, exif=BROKEN_EXIF[name])
    assert header_pixels(content) == 64 * 96
    assert far(decode(content), decode(save(pixels, kind))) == 0


def test_orientation_survives_breakage_elsewhere_in_exif(pixels):
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\2\1\x1a\0\5\0\0\0\1\xff\xff\xff\xff\1\x12\0\3\0\0\0\1\0\6\0\0"
    assert far(decode(lossless(TURNS[6](pixels), "PNG", exif=block)), pixels) == 0


def test_broken_exif_in_avif(pixels):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    content = save(pixels, "AVIF", exif=exif.tobytes())
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    assert tiff in content
    broken = content.replace(tiff, b"\xff" * len(tiff))
    with pytest.raises(ValueError, match="Exif"):
        Image.open(io.BytesIO(broken))
    assert far(decode(broken), decode(save(pixels, "AVIF"))) == 0


def test_of_an_mpo_the_first_picture_is_taken(pixels):
    content = save(pixels, "MPO", save_all=True, append_images=[Image.new("RGB", (50, 50))], quality=95)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert far(decode(content), decode(save(pixels, "JPEG", quality=95))) == 0


def test_a_photo_with_a_grey_corner_is_no_cut_one():
    grey = np.full((200, 200, 3), 128, np.uint8)
    grey[:90] = (200, 90, 30)
    for options in ({}, {"progressive": True}, {"optimize": True}):
        assert isinstance(decode(save(grey, "JPEG", **options)), np.ndarray)
    assert isinstance(decode(save(Image.fromarray(grey[:, :, 0]), "JPEG")), np.ndarray)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.9])
def test_a_jpeg_mended_after_a_cut_is_refused(mode, part, pixels):
    content = save(Image.fromarray(pixels).resize((400, 300)).convert(mode), "JPEG", quality=92)
    content = content[: int(len(content) * part)] + b"\xff\xd9"
    Image.open(io.BytesIO(content)).convert("RGB")  # Pillow finds nothing wrong with it
    assert decode(content) == Rejection("decode", "truncated")


def test_every_prefix_is_refused(pixels):
    for content in (save(pixels, "JPEG"), save(pixels, "PNG"), save(pixels, "WEBP")):
        for end in range(16, len(content), max(1, len(content) // 150)):
            assert decode(content[:end]) == Rejection("decode", "truncated")


def test_real_photos_are_what_pillow_shows(shared):
    """Of those without a colour profile, or with an sRGB one, which moves no colour by more than a level."""
    compared = 0
    for number, path in enumerate(sorted((shared / "photos").rglob("*.jpg"))):
        content = path.read_bytes()
        picture = Image.open(io.BytesIO(content))
        if number % 5 and "icc_profile" not in picture.info:
            continue
        image = decode(content)
        assert isinstance(image, np.ndarray), path.name
        assert header_pixels(content) == image.shape[0] * image.shape[1]
        if "Adobe" in str(picture.info.get("icc_profile")) or "ProPhoto" in str(picture.info.get("icc_profile")):
            continue
        assert far(image, np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))) == 0, path.name
        compared += 1
    assert compared >= 15


def test_header_pixels_reads_the_header_only(hostile_images, pixels):
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        assert header_pixels(save(pixels, kind)) == 64 * 96
    assert header_pixels(hostile_images["png with a flipped bit"][0]) == 0
    assert header_pixels(hostile_images["jpeg of 65500²"][0], 2**33) == 65_500**2
    for name, (content, reason) in hostile_images.items():
        pixels_told, image = header_pixels(content), decode(content)
        if reason is None:
            assert pixels_told == image.shape[0] * image.shape[1], name


@settings(max_examples=400, deadline=5_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_never_raise(data, fuzzed):
    content = bytearray(data.draw(st.sampled_from(fuzzed)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
        if not content:
            break
    result = decode(bytes(content), 1_000_000)
    if isinstance(result, Rejection):
        assert result.stage == "decode"
        assert result.reason in REASONS
    else:
        assert result.dtype == np.uint8
        assert result.ndim == 3
    header_pixels(bytes(content), 1_000_000)


@pytest.fixture(scope="module")
def fuzzed(hostile_images):
    """Small files, so that the damage hits headers as often as pixels."""
    return [content for content, _ in hostile_images.values() if 100 < len(content) < 8_000]


def png(height, width, bits, kind, rows, *chunks):
    """A PNG of a kind that Pillow cannot write. `rows`: height × bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows)))
    others = b"".join(chunk(name, content) for name, content in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + others + data + chunk(b"IEND", b"")


RAMP = np.arange(65536).reshape(256, 256).astype(">u2")
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6


def sixteen_bits(kind, samples, *chunks):
    return png(*samples.shape[:2], 16, kind, [row.tobytes() for row in samples.astype(">u2")], *chunks)


def test_a_16_bit_grey_ramp_is_scaled_not_clipped():
    image = decode(sixteen_bits(GREY, RAMP))
    assert np.abs(image - (RAMP / 257)[..., None]).max() <= 1
    assert image.min() == 0
    assert image.max() == 255
    clipped = np.asarray(Image.open(io.BytesIO(sixteen_bits(GREY, RAMP))).convert("RGB"))
    assert (clipped == 255).mean() > 0.99  # what the test is there for


def test_16_bits_of_every_kind_agree():
    """Pillow keeps the upper eight bits of RGB, RGBA and LA; so do we of grey."""
    grey = decode(sixteen_bits(GREY, RAMP))
    opaque = np.full_like(RAMP, 65535)
    assert far(decode(sixteen_bits(RGB, np.stack([RAMP] * 3, -1))), grey) == 0
    assert far(decode(sixteen_bits(GREY_ALPHA, np.stack([RAMP, opaque], -1))), grey) == 0
    assert far(decode(sixteen_bits(RGB_ALPHA, np.stack([RAMP] * 3 + [opaque], -1))), grey) == 0


def test_8_bits_survive_a_way_through_16(pixels):
    assert far(decode(sixteen_bits(RGB, pixels.astype(np.uint16) * 257)), pixels) == 0
    assert far(decode(sixteen_bits(GREY, pixels[..., 0].astype(np.uint16) * 257))[..., :1], pixels[..., :1]) == 0


def test_16_bit_colour_keys():
    grey = decode(sixteen_bits(GREY, RAMP, (b"tRNS", struct.pack(">H", 300))))
    expected = decode(sixteen_bits(GREY, RAMP)).copy()
    expected[1, 44] = 255
    assert far(grey, expected) == 0
    colour = np.stack([RAMP] * 3, -1)
    assert (
        far(
            decode(sixteen_bits(RGB, colour, (b"tRNS", struct.pack(">3H", 5, 5, 5)))), decode(sixteen_bits(RGB, colour))
        )
        == 0
    )


def over_white(colour, alpha):
    share = alpha[..., None] / 255
    return np.round(colour * share + 255 * (1 - share)).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_laid_over_white(kind, pixels):
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    image = decode(lossless(Image.fromarray(np.dstack([pixels, alpha])), kind))
    assert far(image, over_white(pixels, alpha)) <= 1


def test_grey_with_alpha(pixels):
    grey, alpha = pixels[..., 0], pixels[..., 1]
    image = decode(save(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"))
    assert far(image, np.repeat(over_white(grey[..., None], alpha), 3, -1)) <= 1


def test_grey(pixels):
    for kind in ("PNG", "WEBP"):
        assert far(decode(lossless(Image.fromarray(pixels[..., 0]), kind)), np.repeat(pixels[..., :1], 3, -1)) == 0
    content = save(Image.fromarray(pixels[..., 0]), "JPEG")
    assert far(decode(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))) == 0


def test_one_bit(pixels):
    black = pixels[..., 0] < 100
    expected = np.repeat(np.where(black, 0, 255)[..., None], 3, -1)
    assert far(decode(save(Image.fromarray(~black), "PNG")), expected) == 0
    assert (decode(png(8, 8, 1, GREY, [[0]] * 8, (b"tRNS", b"\0\0"))) == 255).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits(bits):
    levels = 2**bits
    packed = [level * 0b01010101 if bits == 2 else level * 0b00010001 for level in range(levels)]
    image = decode(png(levels, 8 // bits, bits, GREY, [[b] for b in packed]))
    assert far(image[:, :1, :1], np.linspace(0, 255, levels).reshape(-1, 1, 1).astype(int)) == 0


def test_palette(pixels):
    quantised = Image.fromarray(pixels).quantize(32)
    expected = np.asarray(quantised.convert("RGB"))
    assert far(decode(save(quantised, "PNG")), expected) == 0
    clear = int(np.asarray(quantised)[0, 0])
    see_through = np.where(np.asarray(quantised)[..., None] == clear, 255, expected)
    assert far(decode(save(quantised, "PNG", transparency=clear)), see_through) == 0
    half = bytes([128 if n == clear else 255 for n in range(32)])
    image = decode(save(quantised, "PNG", transparency=half))
    assert (
        far(
            image,
            np.where(np.asarray(quantised)[..., None] == clear, over_white(expected, np.full((64, 96), 128)), expected),
        )
        <= 1
    )


def test_a_colour_key(pixels):
    image = decode(save(pixels, "PNG", transparency=(250, 30, 10)))
    assert far(image, np.where((pixels == (250, 30, 10)).all(-1, keepdims=True), 255, pixels)) == 0


INKS = {
    (0, 0, 0, 0): (255, 255, 255),
    (0, 0, 0, 255): (0, 0, 0),
    (255, 0, 0, 0): (0, 255, 255),
    (0, 255, 0, 0): (255, 0, 255),
    (0, 0, 255, 0): (255, 255, 0),
    (0, 255, 255, 0): (255, 0, 0),
    (0, 0, 0, 128): (127, 127, 127),
    (40, 90, 20, 60): (164, 126, 180),
}
"""Cyan, magenta, yellow, black → RGB without a profile."""


def ink(colour):
    return Image.new("CMYK", (16, 16), colour)


@pytest.mark.parametrize("inks", INKS)
def test_cmyk(inks):
    """As Photoshop writes it: stored inverted, with an Adobe marker."""
    content = save(ink(inks), "JPEG", quality=100)
    assert b"Adobe" in content
    assert far(decode(content), np.broadcast_to(INKS[inks], (16, 16, 3))) <= 2


@pytest.mark.parametrize("inks", INKS)
def test_ycck(inks):
    """As Photoshop writes it by default: cyan, magenta and yellow as YCbCr."""
    y, cb, cr = Image.new("RGB", (1, 1), inks[:3]).convert("YCbCr").getpixel((0, 0))
    content = bytearray(save(ink((255 - y, 255 - cb, 255 - cr, inks[3])), "JPEG", quality=100))
    at = content.index(b"Adobe") + 11
    assert content[at] == 0
    content[at] = 2
    assert far(decode(bytes(content)), np.broadcast_to(INKS[inks], (16, 16, 3))) <= 4


def icc(space, tags, pcs=b"XYZ "):
    """A version 2 display profile."""
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"t\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"-\0",
        b"wtpt": white,
    } | tags
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s12s4s", at + len(body), bytes(4), 0x02100000, b"mntr", space, pcs, bytes(12), b"acsp"
    )
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@pytest.fixture(scope="module")
def srgb():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def swapped(srgb):
    """sRGB with red and green changed places."""
    profile = bytearray(srgb)
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_colour_profile_is_applied(kind, pixels, swapped):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(
        kind, {}
    )
    without = decode(lossless(pixels, kind, **options))
    image = decode(lossless(pixels, kind, icc_profile=swapped, **options))
    assert far(image, without[..., [1, 0, 2]]) <= 1
    assert far(image, pixels) > 100


def test_a_colour_profile_is_applied_below_alpha(pixels, swapped):
    alpha = np.full((64, 96), 90, np.uint8)
    image = decode(lossless(Image.fromarray(np.dstack([pixels, alpha])), "PNG", icc_profile=swapped))
    assert far(image, over_white(pixels[..., [1, 0, 2]], alpha)) <= 1


def test_a_palette_has_a_profile_too(pixels, swapped):
    quantised = Image.fromarray(pixels).quantize(32)
    image = decode(save(quantised, "PNG", icc_profile=swapped))
    assert far(image, np.asarray(quantised.convert("RGB"))[..., [1, 0, 2]]) <= 1


def test_srgb_changes_nothing(pixels, srgb):
    assert far(decode(lossless(pixels, "PNG", icc_profile=srgb)), pixels) == 0


def test_a_grey_profile(pixels):
    linear = icc(b"GRAY", {b"kTRC": b"curv" + bytes(8)})
    image = decode(save(Image.new("L", (9, 9), 55), "PNG", icc_profile=linear))
    assert far(image, np.full((9, 9, 3), 128)) <= 1  # 0.2157 of the light is level 128 of sRGB
    assert far(decode(lossless(pixels, "PNG", icc_profile=linear)), pixels) == 0  # it says nothing of colours


def test_an_ink_profile():
    """Of a press whose cyan is red: says which way round the inks come to the profile."""
    white, red, black = (255, 128, 128), (136, 208, 195), (0, 128, 128)
    cells = [
        black if k or m or y else red if c else white for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    ]
    straight = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + straight * 4 + bytes(sum(cells, ())) + straight * 3
    press = icc(b"CMYK", {b"A2B0": table}, b"Lab ")
    for inks, expected in {(0, 0, 0, 0): (255,) * 3, (255, 0, 0, 0): (255, 0, 0), (0, 0, 0, 255): (0,) * 3}.items():
        image = decode(save(ink(inks), "JPEG", quality=100, icc_profile=press))
        assert far(image, np.broadcast_to(expected, (16, 16, 3))) <= 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_broken_profile_is_ignored(kind, pixels, srgb):
    clean = decode(save(pixels, kind))
    ink_profile = icc(b"CMYK", {})
    for profile in (
        b"x",
        bytes(200),
        srgb[:150],
        srgb[:128] + b"\xff" * 40,
        srgb.replace(b"rXYZ", b"zzzz"),
        ink_profile,
    ):
        assert far(decode(save(pixels, kind, icc_profile=profile)), clean) == 0


def test_damaged_profiles_never_raise(pixels, swapped):
    rng = np.random.default_rng(3)
    for _ in range(150):
        profile = bytearray(swapped)
        for at in rng.integers(0, len(profile), 4):
            profile[at] = rng.integers(256)
        assert isinstance(decode(save(pixels[:8, :8], "PNG", icc_profile=bytes(profile))), np.ndarray)


def test_a_photo_with_a_wide_profile_gets_stronger_colours(shared):
    changed = 0
    for path in sorted((shared / "photos").rglob("*.jpg")):
        content = path.read_bytes()
        picture = Image.open(io.BytesIO(content))
        if b"Adobe RGB" in picture.info.get("icc_profile", b"")[:600]:
            plain, image = np.asarray(picture.convert("RGB")).astype(int), decode(content).astype(int)
            assert np.ptp(image, axis=-1).mean() > np.ptp(plain, axis=-1).mean()
            changed += 1
    assert changed
