"""`python -m shards.reference`: docs/configuration.md, written from the settings models themselves."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from shards.config import BuildRun

_HEAD = """# Configuration

One YAML file a run; `key=value` overrides with dotted keys (`filter.verify.rule=linkage`). Unknown keys are errors. The
resolved configuration, every default spelled out, is written beside the output as `config.resolved.yaml`.
This page is made by `python -m shards.reference > docs/configuration.md`.
"""


def reference() -> str:
    """The page, as Markdown: one table a section."""
    sections = [_HEAD, *_sections("", BuildRun)]
    return "\n".join(sections)


def _sections(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    rows, nested = [], []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            nested.append((f"{prefix}{name}", annotation))
            continue
        default = "required" if field.default is PydanticUndefined else f"`{_yaml(field.default)}`"
        rows.append(f"| `{prefix}{name}` | {_type(annotation)} | {default} | {field.description or ''} |")
    if rows:
        title = f"\n## {prefix.rstrip('.') or 'top level'}\n"
        yield "\n".join([title, "| key | type | default | meaning |", "|---|---|---|---|", *rows])
    for name, inner in nested:
        yield from _sections(f"{name}.", inner)


def _type(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " / ".join(f"`{a}`" for a in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    return getattr(annotation, "__name__", str(annotation))


def _yaml(value: object) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )


if __name__ == "__main__":
    print(reference())
