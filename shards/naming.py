"""Whether a text holds a person's name: in words, in an address, run together.

Knows nothing of samples. `caption.check.is_named` is stricter: it also takes a part of a name for the name.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

_LEAST_LETTERS = 6
"""Run together, a shorter name is found in too many words."""


def holds_name(name: str, text: str) -> bool:
    """All words of the name stand in the text, in any order; or the whole name, run together.

    Case, accents, punctuation and percent encoding do not matter: `Ada Lovelace` is in
    `https://example.org/lovelace%2C_ada-1.jpg` and in `AdaLovelace2.jpg`.
    """
    wanted, given = words(name), words(text)
    if not wanted:
        return False
    if set(wanted) <= set(given):
        return True
    together = "".join(wanted)
    return len(together) >= _LEAST_LETTERS and any(together in word for word in given)


def words(text: str) -> list[str]:
    """Lower case, no accents; letters and digits apart."""
    decomposed = unicodedata.normalize("NFKD", unquote(text))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    return re.findall(r"[^\W\d_]+|\d+", plain)
