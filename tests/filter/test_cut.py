"""Crops are our own encoding of the square's pixels: no metadata of the photo, nothing from beside the square."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from crawl.decode import decode_picture
from crawl.photo import Photo
from filter.config import FilterConfig
from filter.cut import cut, encode, resize
from filter.decide import Verified
from filter.faces import Face
from filter.resolution import measure
from filter.scan import Scanned

LANDMARKS = ((180.0, 160.0), (230.0, 160.0), (205.0, 190.0), (185.0, 215.0), (225.0, 215.0))
FACE = Face((150.0, 100.0, 260.0, 240.0), LANDMARKS, 0.9)
CONFIG = FilterConfig(min_face_px=48, size_px=128, face_size_px=64)


@pytest.fixture(scope="module")
def photo():
    """Smooth colours that differ everywhere, 400 × 300."""
    y, x = np.mgrid[:300, :400]
    colours = np.stack([127 + 120 * np.sin(x / 17 + y / 29), x * 255 / 400, y * 255 / 300], axis=-1)
    return Image.fromarray(colours.astype(np.uint8))


def portrait_of(content):
    picture = decode_picture(content)
    row = Photo("k" * 32, "i" * 16, "a.jpg", hashlib.sha256(content).hexdigest(), len(content))
    return cut(picture, Scanned(row, measure(picture), (FACE,), 1), Verified(0, 0.9, ("cluster",)), CONFIG)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def segments(jpeg):
    """(marker, content) of each segment before the first scan."""
    at, found = 2, []
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append((jpeg[at + 1], jpeg[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def test_no_metadata_of_the_photo_is_in_its_crops(photo):
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    told = {
        "exif": exif,
        "comment": b"SECRET comment",
        "dpi": (123, 123),
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "xmp": b"SECRET xmp",
    }
    content = saved(photo, "JPEG", quality=95, **told)
    assert content.count(b"SECRET") == 3
    portrait = portrait_of(content)
    for jpeg in (portrait.image_jpeg, portrait.face_jpeg):
        markers = [marker for marker, _ in segments(jpeg)]
        assert markers == [0xE0, 0xDB, 0xDB, 0xC0, 0xC4, 0xC4, 0xC4, 0xC4], "JFIF, tables, one baseline frame"
        assert segments(jpeg)[0][1] == b"JFIF\0\1\1\0\0\1\0\1\0\0"
    plain = portrait_of(saved(photo, "JPEG", quality=95))
    assert (portrait.image_jpeg, portrait.face_jpeg) == (plain.image_jpeg, plain.face_jpeg)


def test_a_png_of_the_same_pixels_gives_the_same_crops(photo):
    jpeg = saved(photo, "JPEG", quality=95)
    png = saved(decode_picture(jpeg), "PNG")
    one, other = portrait_of(jpeg), portrait_of(png)
    assert (one.image_jpeg, one.face_jpeg) == (other.image_jpeg, other.face_jpeg)


def test_crops_have_their_sizes_and_show_their_place(photo):
    portrait = portrait_of(saved(photo, "PNG"))
    crop, face = (Image.open(io.BytesIO(content)) for content in (portrait.image_jpeg, portrait.face_jpeg))
    assert (crop.size, face.size) == ((128, 128), (64, 64))
    left, top, right, bottom = portrait.crop_xyxy_px
    wanted = np.asarray(photo.crop((left, top, right, bottom)).resize((128, 128), Image.Resampling.LANCZOS), np.int16)
    assert np.abs(np.asarray(crop, np.int16) - wanted).mean() < 2


@st.composite
def squares(draw):
    side = draw(st.integers(20, 300))
    left, top = draw(st.integers(0, 400 - side)), draw(st.integers(0, 300 - side))
    return left, top, left + side, top + side


@settings(deadline=None, max_examples=60)
@given(squares(), st.sampled_from([32, 50, 128]))
def test_a_crop_is_the_squares_pixels_boxed_then_bicubic(photo, square, size_px):
    """As if the square had been a photo of its own, by Pillow's own two steps; what lies beside it changes nothing."""
    alone = photo.crop(square)
    wanted = alone.resize((size_px, size_px), Image.Resampling.BICUBIC, reducing_gap=1.0)
    assert resize(photo, square, size_px) == wanted
    elsewhere = Image.new("RGB", photo.size, (255, 0, 255))
    elsewhere.paste(alone, square[:2])
    assert encode(resize(elsewhere, square, size_px), 95) == encode(wanted, 95)
