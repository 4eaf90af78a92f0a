"""Small JPEGs, and pictures as the page refers to them: an address, or why there is none.

Knows nothing of datasets.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image as PILImage

SIDE_PX = 176
_QUALITY = 78


@dataclass(frozen=True, slots=True)
class Picture:
    """What an `img` shows."""

    url: str | None
    """`data:` or an address of the local site."""
    why_not: str = ""
    """Said in its place when there is no address."""


def thumbnail(picture: PILImage.Image | bytes, side_px: int = SIDE_PX) -> bytes:
    """A JPEG without metadata, at most `side_px` on its longer side. Bytes are one of our own JPEGs.

    Raises OSError (Pillow's) for bytes that are none.
    """
    if isinstance(picture, bytes):
        picture = PILImage.open(io.BytesIO(picture), formats=("JPEG",))
        picture.draft("RGB", (side_px, side_px))
        picture = picture.convert("RGB")
    picture.thumbnail((side_px, side_px), PILImage.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def inlined(picture: PILImage.Image | bytes | str) -> Picture:
    """The thumbnail in the page itself; a text is why there is none."""
    if isinstance(picture, str):
        return Picture(None, picture)
    try:
        content = thumbnail(picture)
    except (OSError, ValueError, PILImage.DecompressionBombError):
        return Picture(None, "cannot be decoded")
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(content).decode()}")
