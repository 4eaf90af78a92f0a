"""The `urls` source: a CSV or Parquet file with a name and an image URL in each row.

Streams: the file may be larger than memory. Whatever is wrong with a row, the next one is read. Fetches nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from crawl.fetching.target import Target
from crawl.source_config import UrlsSettings
from crawl.sources.listing import Sieve, Unlisted, unlisted
from crawl.sources.rows import Columns, Row, rows

ALIASES = {
    "name": ("name", "identity", "person", "celebrity", "label"),
    "image_url": ("image_url", "url", "image", "img_url", "src"),
    "page_url": ("page_url", "page", "source_url", "context_url", "foreign_landing_url"),
    "licence": ("licence", "license"),
    "author": ("author", "creator", "artist", "photographer"),
    "attribution": ("attribution", "credit"),
}
"""field → column names it is looked for under."""


class UrlsSource:
    """The rows of a file as targets."""

    def __init__(self, settings: UrlsSettings) -> None:
        self._settings = settings
        named = {str(field): column for field, column in settings.columns.items()}
        self._columns = Columns(ALIASES, ("name", "image_url"), named, "crawl.columns")

    def find(self) -> Iterator[Target | Unlisted]:
        """Every row in order: a target, or why it is none, with its line.

        Raises InputError when the file cannot be opened or lacks a column.
        """
        sieve = Sieve(self._settings)
        for row in rows(self._settings.path, self._columns, self._settings.delimiter):
            yield row if isinstance(row, Unlisted) else self._target(row, sieve)

    def _target(self, row: Row, sieve: Sieve) -> Target | Unlisted:
        name = " ".join(unicodedata.normalize("NFC", row.values["name"]).split())
        if not name:
            return unlisted("", row.where, "no_name")
        if not row.values["image_url"]:
            return unlisted(name, row.where, "no_url")
        target = Target(
            name,
            row.values["image_url"],
            row.values.get("page_url") or None,
            row.values.get("licence") or self._settings.licence,
            row.values.get("author") or None,
            row.values.get("attribution") or None,
        )
        return sieve.sift(target, row.where)
