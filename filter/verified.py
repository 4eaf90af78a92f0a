"""Verified photos with their face, for the stages that ask a model about each: in batches, one answer a photo.

A batch that fails is asked about again one by one, so that only the photo at fault has no answer. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from PIL import Image as PILImage

from crawl.decode import decode_picture
from crawl.photo import Rejection
from crawl.stage import Tick
from crawl.store import Store
from crawl.tables import Entry, Tables
from filter.decide import Verified
from filter.faces import Face
from filter.scan import Scanned

UPSTREAM = ("scan", "verify")
Answer = TypeVar("Answer")
Ask = Callable[[Sequence[PILImage.Image], Sequence[Face]], Sequence[Answer | Rejection]]
"""One answer a photo."""
Looked = tuple[str, PILImage.Image | Rejection, Face]
"""A photo's key, decoded or why it is not, the verified face."""
_Whole = tuple[str, PILImage.Image, Face]


def verified_photos(tables: Tables, store: Store, bucket: int) -> Iterator[Looked]:
    """Every verified photo of a bucket, in its order."""
    verified = {e.key: e.row for e in tables.read("verify", bucket, Verified) if e.row is not None}
    for entry in tables.read("scan", bucket, Scanned):
        if entry.row is not None and entry.key in verified:
            face = entry.row.faces[verified[entry.key].face_index]
            yield entry.key, decode_picture(store.read(entry.row.photo)), face


class Asking(Generic[Answer]):
    """What one stage asks about photos."""

    def __init__(self, stage: str, batch_size: int, ask: Ask[Answer]) -> None:
        self._stage, self._batch_size, self._ask = stage, batch_size, ask

    def entries(self, photos: Iterable[Looked], tick: Tick) -> Iterator[Entry[Answer]]:
        """One a photo, in their order; a photo that cannot be read has its own rejection."""
        batch: list[Looked] = []
        for looked in photos:
            batch.append(looked)
            if len(batch) == self._batch_size:
                yield from self._entries(batch, tick)
                batch = []
        yield from self._entries(batch, tick)

    def _entries(self, batch: list[Looked], tick: Tick) -> Iterator[Entry[Answer]]:
        whole = [(key, photo, face) for key, photo, face in batch if not isinstance(photo, Rejection)]
        answers = dict(zip((key for key, _, _ in whole), self._answers(whole), strict=True))
        for key, photo, _ in batch:
            answer = photo if isinstance(photo, Rejection) else answers[key]
            yield Entry(key, None, answer) if isinstance(answer, Rejection) else Entry(key, answer)
        tick(self._stage, len(batch))

    def _answers(self, batch: list[_Whole]) -> list[Answer | Rejection]:
        if not batch:
            return []
        try:
            return list(self._ask([photo for _, photo, _ in batch], [face for _, _, face in batch]))
        except (ValueError, RuntimeError, ArithmeticError, LookupError) as error:
            if len(batch) == 1:
                return [Rejection(self._stage, "error", detail=f"{type(error).__name__}: {error}")]
        return [answer for one in batch for answer in self._answers([one])]
