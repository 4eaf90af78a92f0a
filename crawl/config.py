"""Configuration: frozen pydantic models, one YAML file a run, dotted `key=value` overrides.

Each package's run model extends the one upstream, as the rows do: `CrawlRun` knows `output` and
`crawl`, the build's model adds the rest. A key that no model knows is an error.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from crawl.errors import InputError
from crawl.people.config import PeopleSettings
from crawl.policy.politeness import FetchSettings
from crawl.settings import Settings
from crawl.source_config import (
    CelebaSettings,
    CommonsSettings,
    GallerySettings,
    OpenverseSettings,
    SearchSettings,
    UrlsSettings,
)

SECTIONS = ("output", "crawl", "filter", "caption", "shards", "engine", "publish")
"""Every top-level key a run file may hold; a command reads the ones its package knows."""


class FolderSettings(Settings):
    """A local folder: one sub-folder a person."""

    source: Literal["folder"] = "folder"
    root: str = Field(min_length=1, description="Folder that holds PERSON/*.jpg.")
    basis: str = Field(
        "local folder supplied by the user",
        min_length=1,
        description="On what ground these people are in the dataset; recorded for each identity.",
    )
    licence: str | None = Field(None, description="Licence string recorded for every photo.")


LocalSettings = FolderSettings | CelebaSettings
NetworkSettings = UrlsSettings | CommonsSettings | OpenverseSettings | SearchSettings | GallerySettings
SourceSettings = Annotated[LocalSettings | NetworkSettings, Field(discriminator="source")]
SOURCES: dict[str, type[BaseModel]] = {
    "folder": FolderSettings,
    "celeba": CelebaSettings,
    "urls": UrlsSettings,
    "commons": CommonsSettings,
    "openverse": OpenverseSettings,
    "search": SearchSettings,
    "gallery": GallerySettings,
}


class CrawlConfig(Settings):
    """Where photos come from. One source's keys may stand here directly, or several sources in `sources`."""

    sources: tuple[SourceSettings, ...] = Field(
        min_length=1,
        description="A list of sources, each with its own keys. Just one needs no list.",
    )
    people: PeopleSettings | None = Field(None, description="Whom to look for: a text file, a CSV, a Wikidata query.")
    contact: str | None = Field(
        None, min_length=3, description="URL or address of whoever crawls, sent to every site; network sources need it."
    )
    interval_s: float = Field(1.0, ge=0, description="Least time between two requests to one host, cluster-wide.")
    timeout_s: float = Field(30.0, gt=0, description="Wall clock for one whole answer.")
    max_bytes: int = Field(64 * 2**20, gt=0, description="A larger photo is refused unread (reason `too_large`).")
    own_hosts: tuple[str, ...] = Field(
        (), description="HOST or HOST:PORT of your own that may have a private address; robots and opt-outs still hold."
    )
    refresh_days: float | None = Field(
        None, gt=0, description="Photos fetched longer ago are asked for again, conditionally; null: never."
    )

    @property
    def local_sources(self) -> tuple[LocalSettings, ...]:
        return tuple(s for s in self.sources if isinstance(s, LocalSettings))

    @property
    def network_sources(self) -> tuple[NetworkSettings, ...]:
        return tuple(s for s in self.sources if isinstance(s, NetworkSettings))

    @model_validator(mode="after")
    def _a_crawler_says_who_it_is(self) -> CrawlConfig:
        if self.network_sources and self.contact is None:
            raise ValueError("crawl.contact: name a URL or an address where sites can reach you")
        return self

    @model_validator(mode="before")
    @classmethod
    def _keys_of_one_source(cls, keys: Any) -> Any:
        """`{source: folder, root: photos}` is `{sources: [{source: folder, root: photos}]}`."""
        if not isinstance(keys, dict) or "sources" in keys:
            return keys
        own = {key: value for key, value in keys.items() if key in cls.model_fields}
        source = {key: value for key, value in keys.items() if key not in cls.model_fields}
        return {**own, "sources": [{"source": "folder", **source}]}


def fetch_settings(config: CrawlConfig) -> FetchSettings:
    """How the run file says to ask."""
    return FetchSettings(
        contact=config.contact or "",
        interval_s=config.interval_s,
        timeout_s=config.timeout_s,
        max_bytes=config.max_bytes,
        own_hosts=config.own_hosts,
    )


class ShardLayout(Settings):
    """How the dataset is cut. Here because every table, from the first, is laid out by bucket."""

    buckets: int = Field(16, ge=1, le=99_999, description="Identity buckets: the unit of work and of rewriting.")
    max_shard_mb: float = Field(512, gt=0, description="A tar is closed before it would grow past this.")


class CrawlRun(Settings):
    """What `python -m crawl` needs of a run file."""

    output: str = Field(min_length=1, description="The dataset folder: a local path or an fsspec URL.")
    crawl: CrawlConfig
    shards: ShardLayout = ShardLayout()


Run = TypeVar("Run", bound=CrawlRun)
Model = TypeVar("Model", bound=BaseModel)


def load(model: type[Run], path: str, overrides: list[str]) -> Run:
    """Read a run file of the build, apply overrides, validate.

    Raises InputError naming the file and the field for anything wrong in either.
    """
    document = read(path, overrides, SECTIONS)
    for key in document:
        if key not in SECTIONS:
            raise InputError(f"{path}: {key}: unknown key{_nearest(str(key), SECTIONS)}")
    return validated(model, {k: v for k, v in document.items() if k in model.model_fields}, path)


def read(path: str, overrides: list[str], keys: Iterable[str]) -> dict[str, Any]:
    """A run file as it is written, overrides applied. Raises InputError; `keys` is what the file may hold."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a mapping with the keys {', '.join(keys)}")
    for override in overrides:
        apply(document, override)
    return document


def validated(model: type[Model], document: dict[str, Any], path: str) -> Model:
    """Raises InputError: the first thing wrong, naming file and field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error, model)}") from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong, as `section.field: what is wrong (got …)`."""
    first = min(
        error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden"
    )  # a typo explains the rest
    location, siblings = _place(model, first["loc"])
    where = ".".join(location) or "config"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(location[-1], siblings)}{more}"
    got = "" if first["type"] == "missing" or isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}{got}{more}"


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """A place as it stands in the file, and the keys known beside it.

    `crawl.root`, where pydantic says `crawl.sources.0.folder.root`: the tag of a union is not in the file.
    """
    written, here, beside = [], [model], [model]
    for part in location:
        if tagged := [m for m in here if len(here) > 1 and part in _tags(m)]:
            here = tagged
            continue
        written.append(str(part))
        if isinstance(part, str):
            beside, fields = here, here[0].model_fields if here else {}
            here = _models(fields[part].annotation) if part in fields else []
    siblings = [name for m in beside for name in m.model_fields]
    if written[:3] == ["crawl", "sources", "0"]:
        return ["crawl", *(written[3:] or ["source"])], [*siblings, *CrawlConfig.model_fields]
    return written, siblings


def _tags(model: type[BaseModel]) -> list[Any]:
    """What a model is told by: fields that can have one value only, whether or not it is the default."""
    literals = [f.annotation for f in model.model_fields.values() if typing.get_origin(f.annotation) is Literal]
    return [value for literal in literals if len(typing.get_args(literal)) == 1 for value in typing.get_args(literal)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def dump(run: BaseModel) -> str:
    """The resolved configuration as YAML, every default spelled out."""
    return str(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def apply(document: dict[str, Any], override: str) -> None:
    """Set `a.b.c=value` in a run file's document. Raises InputError."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"{override}: an override is written key=value, for example filter.min_side_px=256")
    *parents, last = dotted.split(".")
    place = document
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"{override}: {parent} is not a section")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{override}: the value is not valid YAML") from None


def _nearest(word: str, words: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
