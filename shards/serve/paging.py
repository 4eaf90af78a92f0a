"""Which part of a long list a page shows, and the addresses of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlencode

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Paging:
    """A page of `size` of `total` items; a page that is not there is the nearest one."""

    path: str
    query: dict[str, str]
    total: int
    size: int
    page: int = field(init=False)

    def __post_init__(self) -> None:
        asked = self.query.get("page", "1")
        number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
        object.__setattr__(self, "page", min(max(number, 1), self.pages))

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        return (self.page - 1) * self.size

    def cut(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items of this page, of all of them."""
        return items[self.first : self.first + self.size]

    def address(self, page: int) -> str:
        """Of another page of the same list."""
        return f"{self.path}?{urlencode({**self.query, 'page': page})}"
