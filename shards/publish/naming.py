"""Whether a text holds a person's name: in words, in an address, run together.

Knows nothing of samples. `caption.check.is_named` is stricter: it also takes a part of a name for the name.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

_LEAST_LETTERS = 6
"""Run together, a shorter name is found in too many words."""


def holds_name(name: str, text: str, in_order: bool = False) -> bool:
    """All words of the name stand in the text; or the whole name, run together.

    In an address or a list of authors anywhere; `in_order`, for sentences: side by side. Case, accents, punctuation and
    percent encoding do not matter: `Ada Lovelace` is in `https://example.org/lovelace%2C_ada-1.jpg`.
    """
    wanted, given = words(name), words(text)
    if not wanted:
        return False
    together = "".join(wanted)
    if len(together) >= _LEAST_LETTERS and any(together in word for word in given):
        return True
    if not in_order:
        return set(wanted) <= set(given)
    return any(given[i : i + len(wanted)] == wanted for i in range(len(given)))


def words(text: str) -> list[str]:
    """Lower case, no accents; letters and digits apart."""
    decomposed = unicodedata.normalize("NFKD", unquote(text))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    return re.findall(r"[^\W\d_]+|\d+", plain)
