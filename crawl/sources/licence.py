"""Names of licences as sources write them, brought to one form, so that a list of allowed ones can be held to.

Knows nothing of what a licence permits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CC_URL = re.compile(r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)(?:/([0-9.]+))?(?:/([a-z-]{2,}))?", re.I)
_NO_COUNTRY = ("deed", "legalcode")
_PUBLIC_DOMAIN = {"zero": "cc0", "mark": "pdm", "certification": "pdm"}
_SAME = {"pd": "public-domain", "publicdomain": "public-domain", "public-domain-mark": "pdm", "cc-zero": "cc0"}
_CONDITIONS = ("by", "nc", "nd", "sa")


def licence_code(text: str) -> str:
    """`CC BY-SA 4.0`, `cc-by-sa-4.0` and `https://creativecommons.org/licenses/by-sa/4.0/` → `cc-by-sa-4.0`.

    Also `cc0-1.0`, `pdm-1.0`, `public-domain`; whatever else there is in lower case with hyphens.
    """
    link = _CC_URL.search(text)
    if link:
        group, kind, version, country = link.groups()
        family = _PUBLIC_DOMAIN.get(kind.lower(), kind) if group.lower() == "publicdomain" else f"cc-{kind}"
        country = (country or "").lower()
        return "-".join(p for p in (family.lower(), version, country) if p and p not in _NO_COUNTRY)
    code = re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")
    for written, meant in _SAME.items():
        if code == written or re.match(rf"{written}-\d", code):
            return meant + code[len(written) :]
    return code


def licence_allowed(licence: str | None, allowed: Sequence[str] | None) -> bool:
    """Whether `licence` is one of `allowed`, or a version of one. None allows all; an unknown licence is in no list.

    `cc-by` allows `CC BY 4.0` and `CC BY 3.0 de`, and neither `CC BY-SA 4.0` nor `CC BY-NC 4.0`.
    """
    if allowed is None:
        return True
    if not licence:
        return False
    return any(_is_version(licence_code(licence), licence_code(family)) for family in allowed)


def _is_version(code: str, family: str) -> bool:
    rest = code.removeprefix(family + "-")
    return code == family or (rest != code and rest.split("-")[0] not in _CONDITIONS)
