"""A batch that fails is asked for again one by one. Knows nothing of what is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from crawl.errors import InputError
from crawl.photo import Rejection

Asked = TypeVar("Asked")
Told = TypeVar("Told")


def each_or_all(ask: Callable[[list[Asked]], list[Told]], batch: list[Asked]) -> list[Told | Rejection]:
    """Ask for a batch; when that fails, for each alone, so that only what is at fault is lost, as a Rejection.

    Raises InputError and MemoryError: they are no photo's fault.
    """
    try:
        return [*ask(batch)]
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if len(batch) == 1:
            return [Rejection("caption", "error", detail=f"{type(error).__name__}: {error}")]
    return [told for one in batch for told in each_or_all(ask, [one])]
