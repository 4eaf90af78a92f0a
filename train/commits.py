"""Which commit of a hub repository a name means where a run file names none: what trains and measures, not the base.

The base's own are in `shards.encoders.config`; a name is looked for in both. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping

from shards.encoders.config import COMMITS as OF_BASES

COMMITS = OF_BASES | {
    "ByteDance/SDXL-Lightning": "c9a24f48e1c025556787b0c58dd67a091ece2e44",
    "usyd-community/vitpose-base-simple": "a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
}


def with_commits(given: object, parts: Mapping[str, str]) -> object:
    """Settings as read, with the commits of known names. `parts`: key of a name → key of its commit.

    A name is OWNER/NAME, or OWNER/NAME/FILE.
    """
    if not isinstance(given, dict):
        return given
    names = {key: "/".join(str(given.get(part)).split("/")[:2]) for part, key in parts.items()}
    known = {key: COMMITS[name] for key, name in names.items() if name in COMMITS and given.get(key) is None}
    return {**given, **known}
