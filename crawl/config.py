"""Configuration: frozen pydantic models, one YAML file a run, dotted `key=value` overrides.

Each package's run model extends the one upstream, as the rows do: `CrawlRun` knows `output` and
`crawl`, the build's model adds the rest. A key that no model knows is an error.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crawl.errors import InputError

SECTIONS = ("output", "crawl", "filter", "caption", "shards", "engine")
"""Every top-level key a run file may hold; a command reads the ones its package knows."""


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class CrawlConfig(Settings):
    """Where photos come from."""

    source: Literal["folder"] = Field("folder", description="Kind of source; `folder`: one sub-folder a person.")
    root: str = Field(description="Folder that holds PERSON/*.jpg.")
    basis: str = Field(
        "local folder supplied by the user",
        min_length=1,
        description="On what ground these people are in the dataset; recorded for each identity.",
    )
    licence: str | None = Field(None, description="Licence string recorded for every photo of a local folder.")
    max_bytes: int = Field(64 * 2**20, gt=0, description="A larger file is refused unread (reason `too_large`).")


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


def load(model: type[Run], path: str, overrides: list[str]) -> Run:
    """Read a run file, apply overrides, validate.

    Raises InputError naming the file and the field for anything wrong in either.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a mapping with the keys {', '.join(SECTIONS)}")
    for override in overrides:
        _apply(document, override)
    for key in document:
        if key not in SECTIONS:
            raise InputError(f"{path}: {key}: unknown key{_nearest(str(key), SECTIONS)}")
    known = {k: v for k, v in document.items() if k in model.model_fields}
    try:
        return model.model_validate(known)
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error, model)}") from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong, as `section.field: what is wrong (got …)`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "config"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(str(first['loc'][-1]), _fields_at(model, first['loc'][:-1]))}{more}"
    got = "" if first["type"] == "missing" else f" (got {first['input']!r})"
    return f"{where}: {first['msg']}{got}{more}"


def dump(run: CrawlRun) -> str:
    """The resolved configuration as YAML, every default spelled out."""
    return str(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _apply(document: dict[str, Any], override: str) -> None:
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


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _nearest(word: str, words: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
