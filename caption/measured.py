"""Captions made of measurements: shot size, head pose, colours of clothes and background, light.

Says only what was measured, from a closed vocabulary; guesses neither sex nor age, and needs no model.
Measures a copy of the crop, 128 pixels a side. Left and right are the viewer's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from caption.captioned import Caption
from caption.colours import Floats, dominant, to_lab
from caption.framing import FaceFrame, face_frame, pose, shot
from caption.regions import Mask, background_region, clothes_region, skin_or_hair
from crawl.photo import Rejection
from filter.portrait import Portrait

MADE_BY = "measured-1"
SIDE_PX = 128
CLASS_WORD = "person"

_COLOURLESS_CHROMA = 6.0
"""A photo is black-and-white when 98 of 100 pixels have less chroma than this (JPEG adds some)."""
_DARK_L, _BRIGHT_L = 25.0, 63.0
_LOW_CONTRAST_L, _HIGH_CONTRAST_L = 13.0, 31.0
_COOL, _WARM = -8.0, 15.0
_LEAST_CLOTHES, _LEAST_BACKGROUND = 0.015, 0.05
"""Shares of the crop; of less nothing is said."""
_LEAST_NOT_SKIN = 0.4
_PLAIN_STEP_L, _PLAIN_SPREAD_L, _BUSY_STEP_L = 1.2, 9.0, 4.0
_DIM_BACKGROUND_L, _BRIGHT_BACKGROUND_L = 30.0, 72.0
_DARK_CLOTHES_L, _LIGHT_CLOTHES_L = 35.0, 65.0
_LIKE_SKIN_OR_HAIR = ("brown", "beige", "orange", "pink")
"""Never named as a second colour of clothes: in real photos it is hair or an arm more often than cloth."""
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class MeasuredCaptioner:
    """The embedded back-end: a `Describer`."""

    def __init__(self, made_by: str = MADE_BY) -> None:
        self._made_by = made_by

    def caption(self, portraits: list[Portrait]) -> list[Caption | Rejection]:
        """Raises OSError for a crop that is no image, ValueError for impossible landmarks."""
        return [self._one(portrait) for portrait in portraits]

    def _one(self, portrait: Portrait) -> Caption:
        measures = measure(portrait)
        before = f"a {_tone(measures)} photo of a {CLASS_WORD}".replace("  ", " ")
        return Caption(
            general=f"{before}, with {_company(portrait.faces_in_photo)}",
            background=_background(measures),
            body=", ".join([shot(measures.frame), *pose(measures.frame), *_clothes(measures)]),
            class_word=CLASS_WORD,
            trigger_position=len(before),
            made_by=self._made_by,
        )


@dataclass(frozen=True, slots=True)
class Measures:
    """What the words are chosen from; colours in CIELAB."""

    frame: FaceFrame
    colourless: bool
    """The photo is black-and-white."""
    mean_l: float
    spread_l: float
    """Standard deviation of lightness: the photo's contrast."""
    warmth: float
    """Mean of (a + b) / √2 over the background: above 0 towards orange, below 0 towards blue."""
    clothes: Floats | None
    """Pixels (n × 3) taken for clothes; None when too few are in sight."""
    background: Floats | None
    """Pixels (n × 3) of the background; None when too few are in sight."""
    background_step_l: float
    """Lightness step from pixel to pixel, its 60th percentile: what tells plain from busy."""


def measure(portrait: Portrait) -> Measures:
    """Raises OSError for a crop that is no image, ValueError for impossible landmarks."""
    frame = face_frame(portrait.landmarks_px, portrait.size_px)
    lab = to_lab(_small(portrait.image_jpeg))
    light, clothes, background = lab[..., 0], _clothes_mask(lab, frame), background_region(frame, SIDE_PX)
    enough = background.mean() >= _LEAST_BACKGROUND
    step = np.hypot(*np.gradient(light))[background]
    return Measures(
        frame=frame,
        colourless=bool(np.percentile(np.hypot(lab[..., 1], lab[..., 2]), 98) < _COLOURLESS_CHROMA),
        mean_l=float(light.mean()),
        spread_l=float(light.std()),
        warmth=float(lab[background][:, 1:].sum(axis=1).mean() / 2**0.5) if enough else 0.0,
        clothes=lab[clothes] if clothes.any() else None,
        background=lab[background] if enough else None,
        background_step_l=float(np.percentile(step, 60)) if enough else 0.0,
    )


def _clothes_mask(lab: Floats, frame: FaceFrame) -> Mask:
    """Nothing where skin and hair cover most of the region: bare shoulders, hands, a beard."""
    region = clothes_region(frame, SIDE_PX)
    covered = region & ~skin_or_hair(lab, frame)
    enough = covered.mean() >= _LEAST_CLOTHES and covered.sum() >= _LEAST_NOT_SKIN * region.sum()
    return covered if enough else np.zeros_like(covered)


def _small(jpeg: bytes) -> npt.NDArray[np.uint8]:
    """The crop at 128 × 128. The JPEG decoder itself scales down, which saves most of the time."""
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft("RGB", (SIDE_PX, SIDE_PX))
        return np.asarray(image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


def _tone(measures: Measures) -> str:
    words = [_either(measures.mean_l, _DARK_L, "dark", _BRIGHT_L, "bright")]
    words.append(_either(measures.spread_l, _LOW_CONTRAST_L, "low-contrast", _HIGH_CONTRAST_L, "high-contrast"))
    if measures.colourless:
        words.append("black-and-white")
    else:
        words.append(_either(measures.warmth, _COOL, "cool-toned", _WARM, "warm-toned"))
    return ", ".join(word for word in words if word)


def _company(faces_in_photo: int) -> str:
    """Of the whole photo: the crop may show fewer."""
    if faces_in_photo <= 1:
        return "one face in the picture"
    number = _COUNTS[faces_in_photo - 2] if faces_in_photo - 2 < len(_COUNTS) else "many"
    return f"{number} faces in the picture"


def _background(measures: Measures) -> str:
    if measures.background is None:
        return ""
    colours = " and ".join(dominant(measures.background))
    lightness, step = measures.background[:, 0], measures.background_step_l
    words = []
    if not any(shade in colours for shade in ("black", "white", "dark", "light")):  # which say so already
        words.append(_either(float(lightness.mean()), _DIM_BACKGROUND_L, "dim", _BRIGHT_BACKGROUND_L, "bright"))
    if step < _PLAIN_STEP_L and lightness.std() < _PLAIN_SPREAD_L:
        words.append("plain")
    elif step >= _BUSY_STEP_L:
        words.append("busy")
    return " ".join([*(word for word in words if word), colours, "background"])


def _clothes(measures: Measures) -> list[str]:
    if measures.clothes is None:
        return []
    if measures.colourless:
        lightness = float(np.median(measures.clothes[:, 0]))
        return [f"wearing {_either(lightness, _DARK_CLOTHES_L, 'dark', _LIGHT_CLOTHES_L, 'light') or 'grey'} clothes"]
    first, *second = dominant(measures.clothes)
    others = [colour for colour in second if colour.split()[-1] not in _LIKE_SKIN_OR_HAIR]
    return [f"wearing mostly {' with some '.join([first, *others])}"]


def _either(value: float, low: float, below: str, high: float, above: str) -> str:
    return below if value < low else above if value >= high else ""
