"""Where in a portrait's crop skin, clothes and background are to be looked for.

Proportions of the body, in face heights, place the regions; skin that shows inside the clothes' region is
taken out by its colour, learned from the face. Approximate by design: hair or a hand can reach in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from caption.colours import Floats
from caption.framing import FaceFrame

Mask = npt.NDArray[np.bool_]
"""side × side."""

_SKIN_SHADES, _SKIN_APART = (0.3, 1.7), 14.0
_HAIR_SHADES, _HAIR_APART = (0.3, 2.2), 13.0
"""Least and greatest lightness, as a multiple of the sample's, and distance of chroma, that are still taken for it."""
_HAIR_HUES = (25.0, 100.0)
_LEAST_CHROMA = 8.0
"""Below this a sample has no colour to know it by: black hair, a black-and-white photo."""


def clothes_region(frame: FaceFrame, side_px: int) -> Mask:
    """Below the neck, widening to the shoulders: about 1.1 face heights to either side of the middle."""
    below, beside = _in_face_heights(frame, side_px)
    return np.asarray((below >= 0.3) & (below <= 3.0) & (beside <= np.minimum(0.35 + 0.8 * below, 1.1)))


def background_region(frame: FaceFrame, side_px: int) -> Mask:
    """What is neither head and hair nor in the columns where shoulders, arms and body can be."""
    below, beside = _in_face_heights(frame, side_px)
    head = (below > -1.7) & (below <= 0) & (beside < 0.75)
    body = (below > 0) & (beside < np.minimum(0.75 + 1.4 * below, 1.9))
    return np.asarray(~(head | body))


def skin_or_hair(lab: Floats, frame: FaceFrame) -> Mask:
    """Pixels (side × side × 3) coloured like the cheeks or, when it is not black or grey, like the hair."""
    below, beside = _in_face_heights(frame, lab.shape[0])
    found = np.zeros(lab.shape[:2], np.bool_)
    cheeks = lab[(below > -0.6) & (below < -0.2) & (beside < 0.25)]
    if len(cheeks):
        found |= _like(lab, np.median(cheeks, axis=0), _SKIN_SHADES, _SKIN_APART)
    hairline = lab[(below > -1.3) & (below < -1.05) & (beside < 0.3)]
    if len(hairline):
        hair = np.median(hairline, axis=0)
        if _HAIR_HUES[0] < np.degrees(np.arctan2(hair[2], hair[1])) < _HAIR_HUES[1]:
            found |= _like(lab, hair, _HAIR_SHADES, _HAIR_APART)
    return found


def _like(lab: Floats, colour: Floats, shades: tuple[float, float], apart: float) -> Mask:
    """Pixels of this hue, in its light or in its shadow: chroma grows with lightness. None are like a grey."""
    if np.hypot(colour[1], colour[2]) < _LEAST_CHROMA:
        return np.zeros(lab.shape[:2], np.bool_)
    shade = lab[..., 0] / max(float(colour[0]), 1.0)
    held = np.clip(shade, *shades)
    near = np.hypot(lab[..., 1] - colour[1] * held, lab[..., 2] - colour[2] * held) < apart
    coloured = np.hypot(lab[..., 1], lab[..., 2]) >= _LEAST_CHROMA
    return np.asarray(near & coloured & (shade >= shades[0]) & (shade <= shades[1]))


def _in_face_heights(frame: FaceFrame, side_px: int) -> tuple[Floats, Floats]:
    """Of each row its distance below the chin (column), of each column its distance from the middle (row)."""
    places = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px
    below = (places - frame.chin_y) / frame.height
    beside = np.abs(places - frame.centre_x) / frame.height
    return below[:, None].astype(np.float32), beside[None].astype(np.float32)
