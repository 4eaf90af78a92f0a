"""Names of colours: the eleven basic terms of Berlin and Kay, plus beige and turquoise, with light and dark.

Colours are named in CIELAB (D65), whose lightness L is 0–100 and whose hue and chroma follow the eye.
Knows nothing of photos or captions.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE_XYZ = np.array([0.95047, 1.0, 1.08883])
"""IEC 61966-2-1 (sRGB), D65."""

_TERMS = (
    "black", "grey", "white", "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown",
    "beige",
)  # fmt: skip
_BLACK_BELOW_L, _WHITE_ABOVE_L = 18, 84
_HUES = (25, 50, 75, 108, 170, 215, 308, 345)
"""Upper ends in degrees of the sectors; the last sector wraps round to the first."""
_SECTORS = ("pink", "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
_DARK_BELOW_L = {"grey": 38, "red": 33, "green": 40, "turquoise": 42, "blue": 30, "purple": 28, "brown": 30}
_LIGHT_ABOVE_L = {"grey": 62, "green": 75, "turquoise": 80, "blue": 62, "purple": 65, "pink": 85, "brown": 55}
_SECOND_SHARE = 0.25
_APART = 25.0
"""Two colours nearer than this (CIE76) are one to a person who describes a photo."""


def to_lab(rgb: npt.NDArray[np.uint8]) -> Floats:
    """sRGB (… × 3) as CIELAB; L 0–100, a and b about ±110."""
    xyz = _linear()[rgb] @ (_TO_XYZ / _WHITE_XYZ[:, None]).T.astype(np.float32)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * ((29 / 6) ** 2 / 3) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def name(lab: Floats) -> str:
    """The name of one colour, such as "dark blue"."""
    term = _TERMS[int(_terms(lab[None])[0])]
    if lab[0] < _DARK_BELOW_L.get(term, -1):
        return f"dark {term}"
    return f"light {term}" if lab[0] > _LIGHT_ABOVE_L.get(term, 101) else term


def dominant(lab: Floats) -> list[str]:
    """The main colour of pixels (n × 3, n ≥ 1), and a second one that covers a quarter and differs clearly."""
    terms = _terms(lab)
    counts = np.bincount(terms, minlength=len(_TERMS))
    medians = [np.median(lab[terms == t], axis=0) for t in np.argsort(-counts, kind="stable")[:2] if counts[t]]
    share = np.sort(counts)[-2] / len(lab)
    if len(medians) == 2 and share >= _SECOND_SHARE and np.linalg.norm(medians[0] - medians[1]) >= _APART:
        return list(dict.fromkeys(name(m) for m in medians))
    return [name(medians[0])]


@functools.cache
def _linear() -> Floats:
    """sRGB's transfer curve for the 256 codes."""
    code = np.arange(256) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _terms(lab: Floats) -> npt.NDArray[np.intp]:
    """Index into `_TERMS` of each colour (n × 3). Borders are ours, set by eye on photos and named web colours."""
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360
    sector = np.digitize(hue, _HUES)
    by_sector = np.array([_TERMS.index(s) for s in _SECTORS])[sector]
    rose, red, orange, yellow, green, blue = (sector % 8 == 0, *(sector == s for s in (1, 2, 3, 4, 6)))
    grey_below = np.select([light < _BLACK_BELOW_L, light < 75], [12.0, 11.0], 7.0)
    rules = [
        ("black", (light < 8) | (light < _BLACK_BELOW_L) & (chroma < grey_below)),
        ("white", (light >= _WHITE_ABOVE_L) & (chroma < grey_below)),
        ("grey", chroma < grey_below),
        ("purple", rose & (light < 55) & ((hue < 5) | (hue >= 345)) | blue & (hue >= 297) & (light >= 45)),
        ("red", rose & (light < 55)),
        ("pink", red & ((light >= 64) & (hue < 42) | (light >= 60) & (chroma < 28))),
        ("orange", red & (light >= 60) & (hue >= 42)),
        ("brown", red & ((chroma < 28) | (hue >= 40) & (chroma < 45) & (light < 55))),
        ("beige", orange & (chroma < 45) & (light >= 70) | yellow & (chroma < 38) & (light >= 65)),
        ("beige", green & (hue < 125) & (chroma < 25) & (light >= 80)),
        ("brown", orange & ((light < 62) | (chroma < 50)) | yellow & (light < 65) & (hue < 92)),
        ("green", yellow & (light < 65)),
    ]
    return np.select([rule for _, rule in rules], [_TERMS.index(term) for term, _ in rules], by_sector)
