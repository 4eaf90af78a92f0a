"""The caption stage: `tables/crop` in, a checked caption for each portrait out, one bucket at a time.

Rows go through in batches, so memory stays flat. Knows no back-end; one portrait's failure costs one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from caption.captioned import Caption
from caption.captioner import BACKENDS, Backend, Captioner
from caption.check import faults
from caption.config import CaptionRun
from caption.tokens import TokenCounter, clip_token_counter, estimated_tokens
from crawl.collect import PEOPLE
from crawl.errors import InputError
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Rejection
from crawl.stage import Tick
from crawl.tables import Entry, Tables, fingerprint
from filter.portrait import Portrait

VERSION = 1
UPSTREAM = "crop"


class CaptionStage:
    """`tables/caption`: Entry[Caption] for every portrait."""

    name = "caption"

    def __init__(self, run: CaptionRun, output: Output, backend: Backend | None = None) -> None:
        """`backend`: another than the one that the run file names."""
        self._config = run.caption
        self._backend = backend or BACKENDS[run.caption.backend]
        self._tables = Tables(output)
        self._captioner: Captioner | None = None
        self._count_tokens: TokenCounter = estimated_tokens

    def fingerprint(self, bucket: int) -> str:
        """The batch size is left out: it changes no caption."""
        settings = self._config.model_dump(exclude={"batch_size"})
        upstream = self._tables.fingerprint(UPSTREAM, bucket)
        return fingerprint(self.name, VERSION, settings, self._backend.made_by, upstream)

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        self._tables.write(self.name, bucket, Caption, self._captions(bucket, tick), fingerprint)

    def _captions(self, bucket: int, tick: Tick) -> Iterator[Entry[Caption]]:
        names = self._names(bucket)
        portraits = (e.row for e in self._tables.read(UPSTREAM, bucket, Portrait) if e.row is not None)
        for batch in _batches(portraits, self._config.batch_size):
            for portrait, answer in zip(batch, self._answers(batch), strict=True):
                yield _entry(portrait.key, self._checked(answer, names.get(portrait.identity)))
                tick(self.name, 1)

    def _answers(self, batch: list[Portrait]) -> list[Caption | Rejection]:
        """A batch that fails is asked for again one by one, so that only the portrait at fault is lost."""
        captioner = self._open()
        try:
            return captioner.caption(batch)
        except (InputError, MemoryError):
            raise
        except Exception as error:
            if len(batch) == 1:
                return [Rejection(self.name, "error", detail=f"{type(error).__name__}: {error}")]
        return [answer for portrait in batch for answer in self._answers([portrait])]

    def _checked(self, answer: Caption | Rejection, name: str | None) -> Caption | Rejection:
        if isinstance(answer, Rejection):
            return answer
        found = faults(answer, [name] if name else [], self._count_tokens)
        return Rejection(self.name, "invalid_caption", float(len(found)), 0.0, "; ".join(found)) if found else answer

    def _open(self) -> Captioner:
        if self._captioner is None:
            self._captioner = self._backend.open(self._config)
            if self._backend.free_text:
                self._count_tokens = clip_token_counter() or estimated_tokens
        return self._captioner

    def _names(self, bucket: int) -> dict[str, str]:
        """identity → name, to look for in what a model wrote; a closed vocabulary holds no names."""
        if not self._backend.free_text:
            return {}
        return {e.key: e.row.name for e in self._tables.read(PEOPLE, bucket, Person) if e.row is not None}


def _entry(key: str, answer: Caption | Rejection) -> Entry[Caption]:
    return Entry(key, None, answer) if isinstance(answer, Rejection) else Entry(key, answer)


def _batches(portraits: Iterable[Portrait], size: int) -> Iterator[list[Portrait]]:
    batch: list[Portrait] = []
    for portrait in portraits:
        batch.append(portrait)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
