"""`python -m shards.reference`: docs/configuration.md, written from the settings models themselves."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from crawl.config import SOURCES
from crawl.people.config import PEOPLE
from shards.config import BuildRun

_HEAD = """# Configuration

One YAML file a run; `key=value` overrides with dotted keys (`filter.verify.rule=linkage`). Unknown keys are errors. The
resolved configuration, every default spelled out, is written beside the output as `config.resolved.yaml`.
This page is made by `python -m shards.reference > docs/configuration.md`.
"""


def reference() -> str:
    """The page, as Markdown: one table a section."""
    sources = (section(f"a source: {name}", "", model, tag="source") for name, model in SOURCES.items())
    lists = (section(f"a list of people: {name}", "crawl.people.", model, tag="list") for name, model in PEOPLE.items())
    return "\n".join([_HEAD, *sections("", BuildRun), *lists, *sources])


def sections(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    """A section for this model, and one for each that is a field of it."""
    yield section(prefix.rstrip(".") or "top level", prefix, model)
    for name, field in model.model_fields.items():
        item = (typing.get_args(field.annotation) or (None,))[0]
        if _is_model(field.annotation):
            yield from sections(f"{prefix}{name}.", field.annotation)  # type: ignore[arg-type]
        elif typing.get_origin(field.annotation) is tuple and _is_model(item):
            yield section(f"each of {prefix}{name}", "", item)


def section(title: str, prefix: str, model: type[BaseModel], tag: str = "") -> str:
    """A table of the model's own keys, but for `tag`, which names the model itself."""
    rows = [
        f"| `{prefix}{name}` | {_type(field.annotation)} | {_default(field.default)} | {field.description or ''} |"
        for name, field in model.model_fields.items()
        if not _is_model(field.annotation) and name != tag
    ]
    return "\n".join([f"\n## {title}\n", "| key | type | default | meaning |", "|---|---|---|---|", *rows])


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(value: object) -> str:
    return "required" if value is PydanticUndefined else f"`{_yaml(value)}`"


def _type(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " / ".join(f"`{a}`" for a in arguments)
    if origin in (types.UnionType, typing.Union):
        given = [a for a in arguments if a is not type(None)]
        if len(given) > 1 and all(map(_is_model, given)):
            return "a section, of one of several kinds"
        return " or ".join(_type(a) for a in given)
    if origin is tuple:
        return "list"
    if origin is typing.Annotated:
        return _type(arguments[0])
    return "a section" if _is_model(annotation) else getattr(annotation, "__name__", str(annotation))


def _yaml(value: object) -> str:
    """As it would be written in the run file."""
    if isinstance(value, BaseModel):
        return _yaml(value.model_dump(mode="json"))
    if isinstance(value, tuple):
        value = list(value)
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=1000)
        .removesuffix("\n...\n")
        .strip()
    )


if __name__ == "__main__":
    print(reference())
