"""CSS and XPath selectors of run files: which of the two one is, whether it can be read, what it finds.

Knows nothing of what is looked for.
"""

from __future__ import annotations

from parsel import Selector, SelectorList

_XPATH_STARTS = ("/", "(", "./")


def select(place: Selector, selector: str) -> SelectorList[Selector]:
    """What the selector finds at or under `place`, in document order. XPath begins with `/`, `(` or `./`."""
    return place.xpath(selector) if selector.startswith(_XPATH_STARTS) else place.css(selector)


def checked(selector: str) -> str:
    """The selector itself. Raises ValueError when it is none."""
    try:
        select(Selector(text="<p></p>", type="html"), selector)
    except Exception as error:  # cssselect has four bases for what may be wrong
        kind = "an XPath" if selector.startswith(_XPATH_STARTS) else "a CSS"
        raise ValueError(f"not {kind} selector: {' '.join(str(error).split())[:200]}") from None
    return selector


def value_of(found: Selector, attributes: tuple[str, ...]) -> str:
    """An attribute or a text as it was selected; of an element the first of these attributes, "" without any."""
    if isinstance(found.root, str):
        return found.root.strip()
    return next((found.attrib[name].strip() for name in attributes if found.attrib.get(name)), "")


def text_of(found: Selector) -> str:
    """Its text, or that of everything in it, with single spaces."""
    text = found.root if isinstance(found.root, str) else "".join(found.xpath(".//text()").getall())
    return " ".join(str(text).split())
