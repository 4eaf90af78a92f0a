"""One page of a gallery, and what a run file's selectors find on it.

Knows nothing of the network, or of the order in which pages are asked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urldefrag, urljoin

from parsel import Selector
from w3lib.encoding import html_to_unicode
from w3lib.html import get_base_url

from crawl.gallery.selector import select, text_of, value_of
from crawl.source_config import GallerySettings

_LINK = ("href",)
_IMAGE = ("src", "href", "content")
_READ_CHARS = 10_000
"""Of a text that a pattern is looked for in."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a person's page."""

    name: str
    url: str


class Page:
    """An HTML page. Addresses on it come out absolute, without fragment, each once, in order."""

    def __init__(self, url: str, content_type: str, body: bytes, signals: tuple[str, ...] = ()) -> None:
        """`url`: after redirects. `signals`: of opting out, from headers and page."""
        encoding, text = html_to_unicode(content_type, body)
        self.url = url
        self.signals = signals
        self._root = Selector(text=text, type="html")
        self._base = get_base_url(text, url, encoding)

    def links(self, selector: str | None) -> list[str]:
        return list(dict.fromkeys(url for url, _ in self._found(selector, _LINK)))

    def images(self, settings: GallerySettings) -> list[str]:
        """Of the `photo` selector, rewritten by `image_pattern`."""
        found = dict.fromkeys(url for url, _ in self._found(settings.photo, _IMAGE))
        return [image_url(settings, url) for url in found]

    def people(self, settings: GallerySettings) -> list[Link]:
        """Name "" where the link has none."""
        found = self._found(settings.person_links, _LINK)
        return list(dict.fromkeys(Link(_name(settings, place), url) for url, place in found))

    def photo_count(self, settings: GallerySettings) -> int | None:
        """What the page says; None when it says nothing of the kind."""
        for found in select(self._root, settings.count or "//body"):
            match = re.search(settings.count_pattern, text_of(found)[:_READ_CHARS])
            digits = re.sub(r"\D", "", _group(match))
            if digits.isascii() and digits:
                return int(digits[:15])
        return None

    def _found(self, selector: str | None, attributes: tuple[str, ...]) -> Iterator[tuple[str, Selector]]:
        for place in select(self._root, selector) if selector is not None else ():
            written = value_of(place, attributes)
            url = _absolute(self._base, written) if written else None
            if url is not None:
                yield url, place


def folded(name: str) -> str:
    """A key by which two spellings of a name are one: NFC, without regard to case, with single spaces."""
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", name).split()).casefold())


def person_url(template: str, name: str) -> str:
    """`{name}` percent-encoded; `{slug}` in lower case, without accents, hyphens for whatever is no letter or digit."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    slug = re.sub(r"[\W_]+", "-", plain.lower()).strip("-")
    return template.replace("{slug}", quote(slug)).replace("{name}", quote(unicodedata.normalize("NFC", name), safe=""))


def image_url(settings: GallerySettings, url: str) -> str:
    """The address of the full-size image; one that `image_pattern` does not match stays as it is."""
    if settings.image_pattern is None or settings.image_url is None:
        return url
    match = re.search(settings.image_pattern, url)
    if match is None:
        return url
    groups = (match[0], *match.groups(""))
    return re.sub(r"\{(\d)\}", lambda place: groups[int(place[1])], settings.image_url)


def _name(settings: GallerySettings, link: Selector) -> str:
    places = [link] if settings.person_name is None else select(link, settings.person_name)
    text = unicodedata.normalize("NFC", next((text_of(place) for place in places), ""))
    if settings.name_pattern is None:
        return text
    return _group(re.search(settings.name_pattern, text[:_READ_CHARS])).strip()


def _group(match: re.Match[str] | None) -> str:
    """The first group, or all there is."""
    if match is None:
        return ""
    return (match[1] if match.re.groups else match[0]) or ""


def _absolute(base: str, written: str) -> str | None:
    """None for what is no address, such as `http://[`."""
    try:
        return urldefrag(urljoin(base, written)).url
    except ValueError:
        return None
