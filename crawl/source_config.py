"""Settings of the sources that are no folder: one model each, told apart by one key.

`crawl.source: commons` chooses CommonsSettings. Knows nothing of how any of them works.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from crawl.gallery.selector import checked
from crawl.sources.json_path import parse_path

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_WHO = {"{name}", "{slug}"}


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _is_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("expected http(s)://HOST/PATH; parameters have keys of their own")
    return url


def _is_template(template: str) -> str:
    placeholders = set(_PLACEHOLDER.findall(template))
    if not placeholders or placeholders - {"{name}", "{qid}"}:
        raise ValueError("expected a text with {name} or {qid} in it, and no other placeholder")
    return template


def _is_path(path: str) -> str:
    parse_path(path)
    return path


def _is_page(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("expected http(s)://HOST/PATH")
    return url


def _is_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


Address = Annotated[str, AfterValidator(_is_address)]
PageUrl = Annotated[str, AfterValidator(_is_page)]
Pattern = Annotated[str, AfterValidator(_is_pattern)]
Select = Annotated[str, Field(min_length=1), AfterValidator(checked)]
Host = Annotated[str, Field(pattern=r"^[^\s/:@?#]+$")]
Template = Annotated[str, AfterValidator(_is_template)]
JsonPath = Annotated[str, AfterValidator(_is_path)]
Delimiter = Annotated[str, Field(min_length=1, max_length=1)]


class Listing(Settings):
    """What every source that lists image URLs has."""

    max_photos: int | None = Field(None, ge=1, description="Photos to list for one person; null: all there are.")
    allowed_licences: tuple[str, ...] | None = Field(
        None,
        description="Only these licences, in any version, such as [cc0, pdm, cc-by, cc-by-sa]; a photo whose licence "
        "is not known is then left out. null: any.",
    )


class UrlsSettings(Listing):
    """A CSV or Parquet file with one image URL a row."""

    source: Literal["urls"]
    path: str = Field(min_length=1, description="The file; Parquet is told by its first bytes.")
    columns: dict[Literal["name", "image_url", "page_url", "licence", "author", "attribution"], str] = Field(
        {}, description="Column of a field where its name is none of the usual ones, such as {name: celebrity}."
    )
    delimiter: Delimiter = Field(",", description="Between the fields of a CSV file.")
    basis: str = Field("list of URLs supplied by the user", min_length=1, description="See `crawl.basis`.")
    licence: str | None = Field(None, description="Licence of rows that name none.")


class CelebaSettings(Settings):
    """The CelebA folder."""

    source: Literal["celeba"]
    root: str = Field(min_length=1, description="Folder with identity_CelebA.txt and the images, as unpacked.")
    variant: Literal["in_the_wild", "aligned", "aligned_png"] = Field(
        "in_the_wild", description="img_celeba, img_align_celeba (178×218 px), or img_align_celeba_png."
    )
    basis: str = Field("CelebA identity annotations", min_length=1, description="See `crawl.basis`.")
    licence: str | None = Field(
        "CelebA agreement: non-commercial research only", description="Recorded for every photo."
    )


class CommonsSettings(Listing):
    """Wikimedia Commons, or another MediaWiki, through its action API."""

    source: Literal["commons"]
    url: Address = Field("https://commons.wikimedia.org/w/api.php", description="The wiki's api.php.")
    find: Literal["search", "category"] = Field("search", description="Search by `query`, or list `category`.")
    query: Template = Field(
        '"{name}" filetype:bitmap',
        description="CirrusSearch query. `haswbstatement:P180={qid}` finds files that depict the person.",
    )
    category: Template = Field("Category:{name}", description="Category whose files are listed, not its subcategories.")
    min_side_px: int = Field(0, ge=0, description="A smaller file is left out before it is fetched.")
    batch: int = Field(50, ge=1, le=500, description="Files asked for in one request.")
    max_requests: int = Field(100, ge=1, description="Requests for one person.")
    maxlag_s: int = Field(5, ge=1, description="Wait while the wiki's databases lag more than this.")
    max_photos: int | None = Field(200, ge=1, description="Photos to list for one person; null: all there are.")


class _WithKey(Listing):
    """What a source that may send a key has."""

    url: Address

    def _key_env(self) -> str | None:
        raise NotImplementedError

    @model_validator(mode="after")
    def _key_is_sent_encrypted(self) -> Self:
        parts = urlsplit(self.url)
        if self._key_env() and parts.scheme != "https" and not _LOOPBACK.fullmatch(parts.hostname or ""):
            raise ValueError("url: a key is sent over https only")
        return self


class OpenverseSettings(_WithKey):
    """Openverse: openly licensed images."""

    source: Literal["openverse"]
    url: Address = Field("https://api.openverse.org/v1/images/", description="The image search.")
    query: Template = Field('"{name}"', description="At most 200 characters count.")
    parameters: dict[str, str] = Field({}, description="Further parameters, such as {source: flickr}.")
    min_side_px: int = Field(0, ge=0, description="An image known to be smaller is left out before it is fetched.")
    page_size: int = Field(20, ge=1, le=240, description="At most 20 without a token.")
    max_results: int = Field(240, ge=1, description="How deep the API lets one query go: 240 for most users.")
    token_env: str | None = Field(None, description="Name of the environment variable with the OAuth2 token.")
    max_photos: int | None = Field(200, ge=1, description="Photos to list for one person; null: all there are.")

    def _key_env(self) -> str | None:
        return self.token_env

    @model_validator(mode="after")
    def _small_pages_without_token(self) -> Self:
        if self.page_size > 20 and not self.token_env:
            raise ValueError("page_size: more than 20 needs token_env")
        return self


class SearchSettings(_WithKey):
    """Any image search that answers in JSON. Paths are such as `value`, `items[0].link`; see crawl/json_path.py."""

    source: Literal["search"]
    url: Address = Field(description="The search, without parameters.")
    query_parameter: str = Field("q", min_length=1, description="Parameter that holds `query`.")
    query: Template = Field('"{name}"', description="What to search for.")
    parameters: dict[str, str] = Field({}, description="Further parameters; no place for a key.")
    results: JsonPath = Field(description="Path of the list of results; `$`: the document itself.")
    image_url: JsonPath = Field(description="Within a result: the image.")
    page_url: JsonPath | None = Field(None, description="Within a result: the page that shows it.")
    licence: JsonPath | None = Field(None, description="Within a result.")
    author: JsonPath | None = Field(None, description="Within a result.")
    attribution: JsonPath | None = Field(None, description="Within a result.")
    page_parameter: str | None = Field(None, min_length=1, description="Parameter for the page, offset or token.")
    page_start: int = Field(1, ge=0, description="Its first value, when pages are counted.")
    page_step: int = Field(1, ge=1, description="What the next page adds to it: 1, or the page's size for offsets.")
    next: JsonPath | None = Field(
        None,
        description="Path of the next page's number or token or, where there is no page_parameter, of its URL; "
        "without it pages are counted.",
    )
    max_pages: int = Field(20, ge=1, description="Pages for one person.")
    key_env: str | None = Field(None, min_length=1, description="Name of the environment variable with your key.")
    key_parameter: str | None = Field(None, min_length=1, description="Parameter the key is sent in, or")
    key_header: str | None = Field(None, pattern=r"^[A-Za-z0-9-]+$", description="the header it is sent in.")
    key_prefix: str = Field("", pattern=r"^[ -~]*$", description="Put before the key, such as `Bearer `.")
    max_photos: int | None = Field(200, ge=1, description="Photos to list for one person; null: all there are.")

    def _key_env(self) -> str | None:
        return self.key_env

    @model_validator(mode="after")
    def _key_has_one_place(self) -> Self:
        places = (self.key_parameter is not None) + (self.key_header is not None)
        if places != (1 if self.key_env else 0):
            raise ValueError("key_env: give it with one of key_parameter and key_header, and these only with it")
        return self


class GallerySettings(Listing):
    """A web gallery: list of people → a person's pages of thumbnails → photo pages. docs/gallery-recipe.md shows how.

    A selector is CSS, or XPath when it begins with `/`, `(` or `./`. Where it finds an element, a link's `href`,
    an image's `src` or the element's text is taken; `::attr(data-src)` or `/@data-src` takes something else.
    """

    source: Literal["gallery"]
    start_url: PageUrl = Field(description="The page that lists people, or the letters they are listed under.")
    hosts: tuple[Host, ...] = Field(
        (), description="Hosts whose pages are followed besides start_url's. Images may be anywhere."
    )
    letters: Select | None = Field(
        None, description="On start_url: links to the lists of people; null: it is the list."
    )
    person_links: Select | None = Field(None, description="In a list: links to people's pages.")
    person_name: Select | None = Field(None, description="Within such a link: the name; null: the link's text.")
    name_pattern: Pattern | None = Field(None, description="Regular expression that finds the name in it, as group 1.")
    list_pages: Select | None = Field(None, description="In a list: links to further pages of it.")
    person_url: str | None = Field(
        None, description="Instead of lists: address of a person's page, with {slug} (`ada-lovelace`) or {name} in it."
    )
    count: Select | None = Field(None, description="On a person's page: where it says how many photos there are.")
    count_pattern: Pattern = Field(
        r"\d+(?:[ ,.'’\u00a0\u202f]\d{3})*",
        description="Regular expression that finds the number, as group 1 or whole.",
    )
    thumbnails: Select = Field(description="On a person's page: links to photo pages, or to photos if `photo` is null.")
    photo: Select | None = Field(None, description="On a photo page: the full-size image.")
    next_pages: Select | None = Field(None, description="On a person's page: links to further pages of thumbnails.")
    page_url: str | None = Field(
        None, description="Instead of next_pages: their address, such as {url}?page={page}, counted from 2."
    )
    image_pattern: Pattern | None = Field(None, description="Regular expression for an image's address, and")
    image_url: str | None = Field(None, description="the address of the full-size one, with {0}, {1} … for its groups.")
    min_photos: int = Field(0, ge=0, description="A person with fewer on the page (`count`) is not crawled.")
    max_photos: int | None = Field(500, ge=1, description="Photos to list for one person; null: all there are.")
    max_pages: int = Field(1000, ge=1, description="Pages of one list, or of one person.")
    all_people: bool = Field(False, description="Crawl everybody in the gallery when there is no `crawl.people`.")
    basis: str = Field("public photo gallery", min_length=1, description="See `crawl.basis`; of people on no list.")
    licence: str | None = Field(None, description="Recorded for every photo.")

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if (self.person_links is None) == (self.person_url is None):
            raise ValueError("person_links: give it, or person_url, and not both")
        if self.person_url is not None and (self.all_people or not {*_PLACEHOLDER.findall(self.person_url)} & _WHO):
            raise ValueError("person_url: it needs {slug} or {name} in it, and a list of people instead of all_people")
        if self.min_photos and self.count is None:
            raise ValueError("min_photos: it needs `count`, which says where the number of photos is")
        if self.page_url is not None and (self.next_pages is not None or "{page}" not in self.page_url):
            raise ValueError("page_url: it needs {page} in it, and no next_pages beside it")
        return self

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        if (self.image_pattern is None) != (self.image_url is None):
            raise ValueError("image_pattern: give it with image_url, and image_url with it")
        groups = re.compile(self.image_pattern or "").groups
        places = _PLACEHOLDER.findall(self.image_url or "")
        if any(not re.fullmatch(r"\{\d\}", place) or int(place[1]) > groups for place in places):
            raise ValueError(f"image_url: image_pattern has the groups {{0}} to {{{groups}}}")
        return self


SourceSettings = Annotated[
    UrlsSettings | CelebaSettings | CommonsSettings | OpenverseSettings | SearchSettings | GallerySettings,
    Field(discriminator="source"),
]
