"""A photo that is kept out of datasets at one address is out at every other address where its bytes were found.

The bytes of an opted-out photo are known where they came before the signal did (a site's tdmrep.json), or from an
earlier run. Where an answer's header opts out, its bytes are not asked for, and no copy can be told by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from crawl.photo import Photo
from crawl.policy.refusals import refusal
from crawl.tables import Entry

OPTED_OUT = "opted_out"


def opted_out_bytes(entries: Iterable[Entry[Photo]]) -> dict[str, str]:
    """sha256 → signal and address, of the photos that opted out and whose bytes are known."""
    return {
        entry.row.sha256: f"{entry.rejection.detail} at {entry.row.source}"
        for entry in entries
        if entry.row and entry.row.sha256 and entry.rejection and entry.rejection.reason == OPTED_OUT
    }


def withdrawn(entry: Entry[Photo], opted_out: Mapping[str, str]) -> Entry[Photo]:
    """The entry; rejected when it is a copy of what has opted out."""
    if entry.row is None or entry.rejection is not None or entry.row.sha256 not in opted_out:
        return entry
    return replace(entry, rejection=refusal(OPTED_OUT, detail=opted_out[entry.row.sha256]))
