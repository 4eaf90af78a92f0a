"""The caption stage: `tables/crop` in, a checked caption for each portrait out, one bucket at a time.

Rows go through in batches, so memory stays flat. Knows no back-end; one portrait's failure costs one row.
"""

from __future__ import annotations

from collections.abc import Iterator

from caption.captioned import Caption
from caption.captioner import BACKENDS, Answer, Backend, Sitter, Studio
from caption.config import CaptionRun
from caption.dialogue import Effort
from caption.replies import Replies
from crawl.collect import PEOPLE
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Rejection
from crawl.stage import Tick
from crawl.tables import Entry, Tables, fingerprint
from filter.portrait import Portrait

VERSION = 2
UPSTREAM = "crop"
EFFORTS = "efforts"


class CaptionStage:
    """`tables/caption`: Entry[Caption], and `tables/efforts`: Entry[Effort], for every portrait."""

    name = "caption"

    def __init__(self, run: CaptionRun, output: Output, backend: Backend | None = None) -> None:
        """`backend`: another than the one that the run file names. Raises InputError for no such prompt or folder."""
        self._config, self._buckets = run.caption, run.shards.buckets
        self._backend = backend or BACKENDS[run.caption.backend]
        self._output, self._tables = output, Tables(output)
        self._made_by = self._backend.made_by(self._config)
        self._studio: Studio | None = None

    def fingerprint(self, bucket: int) -> str:
        """What changes no caption is left out: the size of batches, an endpoint's address and pace."""
        settings = [self._made_by, self._backend.depends_on(self._config)]
        return fingerprint(self.name, VERSION, settings, self._tables.fingerprint(UPSTREAM, bucket))

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        self._tables.write(self.name, bucket, Caption, self._captions(bucket, fingerprint, tick), fingerprint)

    def _captions(self, bucket: int, fingerprint: str, tick: Tick) -> Iterator[Entry[Caption]]:
        replies = Replies(self._output, bucket, self._buckets)
        efforts: list[Entry[Effort]] = []
        for answer in self._open()(replies).captions(self._sitters(bucket)):
            yield _entry(answer)
            efforts.append(Entry(answer.key, answer.effort))
            tick(self.name, 1)
        replies.settle()
        self._tables.write(EFFORTS, bucket, Effort, efforts, fingerprint)  # first: a finished caption table has efforts

    def _open(self) -> Studio:
        if self._studio is None:
            self._studio = self._backend.open(self._config, self._output)
        return self._studio

    def _sitters(self, bucket: int) -> Iterator[Sitter]:
        """The name is to be looked for in what a model wrote."""
        names = {e.key: e.row.name for e in self._tables.read(PEOPLE, bucket, Person) if e.row is not None}
        for entry in self._tables.read(UPSTREAM, bucket, Portrait):
            if entry.row is not None:
                yield Sitter(entry.row, names.get(entry.row.identity))


def _entry(answer: Answer) -> Entry[Caption]:
    outcome = answer.outcome
    return Entry(answer.key, None, outcome) if isinstance(outcome, Rejection) else Entry(answer.key, outcome)
