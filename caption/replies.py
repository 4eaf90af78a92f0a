"""Replies that are known: what a model has said is kept, and never asked for, or paid for, again.

One row a reply, found by a hash of all that it depends on: the photo's bytes, every word said so far, the model, and
how it was asked. Kept in `tables/replies/` in small files, one a batch, joined when their bucket is done; each is
written as soon as the batch is answered. They outlive `tables/caption`, another prompt, and another number of buckets.
Knows no back-end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caption.batches import each_or_all
from caption.chat import Chat, Conversation, End, NoReply, Reply
from crawl.errors import InputError, Paused
from crawl.output import Output
from crawl.photo import Rejection, bucket_of
from crawl.tables import arrow_schema

Told = Reply | NoReply | Rejection
FOLDER = "tables/replies"
_NAME = re.compile(r"(\d{5})-of-(\d{5})-[0-9a-f]{16}\.parquet")
_FEW_FILES = 4


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is asked, and how: what besides the conversation a reply depends on."""

    name: str
    """Back-end, model and revision: `qwen:Qwen/Qwen2.5-VL-7B-Instruct@main`."""
    manner: str
    """The parameters of generation, as JSON with sorted keys."""


@dataclass(frozen=True, slots=True)
class KnownReply:
    """A row: a reply and what it answers."""

    key: str
    identity: str
    photo_sha256: str
    """Of the crop that was shown."""
    speaker: str
    manner: str
    turn: int
    """1 for the first thing asked of a photo."""
    text: str
    prompt_tokens: int
    new_tokens: int
    end: str
    seconds: float
    """Wall time of its batch, divided by the batch's replies."""


class Replies:
    """The known replies of one bucket."""

    def __init__(self, output: Output, bucket: int, buckets: int) -> None:
        """Raises InputError for a file that is damaged."""
        self._output, self._bucket, self._buckets = output, bucket, buckets
        self._known = {row.key: row for row in self._read()}

    def get(self, key: str) -> Reply | None:
        row = self._known.get(key)
        return None if row is None else _reply(row)

    def add(self, rows: list[KnownReply]) -> None:
        """Keep these; on disk when this returns."""
        if rows:
            self._write(rows)
            self._known.update({row.key: row for row in rows})

    def settle(self) -> None:
        """Join the bucket's files into one. Killed half-way, rows are there twice, never lost."""
        own = [name for name in self._names() if _bucket_in(name) == (self._bucket, self._buckets)]
        if len(own) > _FEW_FILES:
            rows = {row.key: row for name in own for row in _rows(self._output, name)}
            joined = self._write(sorted(rows.values(), key=lambda row: row.key))
            for name in own:
                if name != joined:
                    self._output.remove(name)

    def _read(self) -> Iterator[KnownReply]:
        """From this layout's files of this bucket, and from every file of a layout with another number of buckets."""
        for name in self._names():
            bucket, buckets = _bucket_in(name)
            if buckets != self._buckets:
                rows = _rows(self._output, name)
                yield from (row for row in rows if bucket_of(row.identity, self._buckets) == self._bucket)
            elif bucket == self._bucket:
                yield from _rows(self._output, name)

    def _names(self) -> list[str]:
        return [f"{FOLDER}/{name}" for name in self._output.names(FOLDER) if _NAME.fullmatch(name)]

    def _write(self, rows: list[KnownReply]) -> str:
        digest = hashlib.sha256("\n".join(row.key for row in rows).encode()).hexdigest()[:16]
        name = f"{FOLDER}/{self._bucket:05d}-of-{self._buckets:05d}-{digest}.parquet"
        schema = arrow_schema(KnownReply)
        columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
        with self._output.create(name) as file:
            # A few rows: dictionaries and statistics would be larger than what they describe.
            table = pa.table(columns, schema=schema)
            pq.write_table(table, file, compression="zstd", use_dictionary=False, write_statistics=False)
        return name


class NoReplies(Replies):
    """Where nothing is kept: trials of a photo."""

    def __init__(self) -> None:
        self._known = {}

    def add(self, rows: list[KnownReply]) -> None:
        self._known.update({row.key: row for row in rows})

    def settle(self) -> None:
        pass


class KnownFirst:
    """Asks a Chat only for what is not known, and keeps what comes before anything else is done with it."""

    def __init__(
        self, open_chat: Callable[[], Chat], speaker: Speaker, replies: Replies, clock: Callable[[], float]
    ) -> None:
        """`open_chat` is called when there is something to ask. `clock`: seconds, such as `time.monotonic`."""
        self._open, self._speaker, self._replies, self._clock = open_chat, speaker, replies, clock
        self._asked: set[str] = set()

    def begin(self, conversations: list[Conversation], model: Executor) -> Callable[[], list[Told]]:
        """Have `model`, a thread, ask; the result waits for the replies, keeps them and gives one a conversation.

        It raises Paused when there is no use in asking on; everything that came by then is kept.
        """
        keys = [reply_key(conversation, self._speaker) for conversation in conversations]
        said = dict(zip(keys, conversations, strict=True))
        new = {key: c for key, c in said.items() if self._replies.get(key) is None and key not in self._asked}
        self._asked |= new.keys()
        asked = model.submit(self._ask, list(new.values())) if new else None

        def replies() -> list[Told]:
            told = {} if asked is None else self._keep(new, *asked.result())
            told |= {key: reply for key in keys if (reply := self._replies.get(key)) is not None}
            late = {key: c for key, c in said.items() if key not in told}  # asked in a batch before, without success
            if late:
                told |= zip(late, self.begin(list(late.values()), model)(), strict=True)
            return [told[key] for key in keys]

        return replies

    def _ask(self, conversations: list[Conversation]) -> tuple[list[Told], float]:
        """In the model's thread: (an outcome each, seconds)."""
        chat, start = self._open(), self._clock()
        return each_or_all(chat.ask, conversations), self._clock() - start

    def _keep(self, asked: dict[str, Conversation], outcomes: list[Told], seconds: float) -> dict[str, Told]:
        told = dict(zip(asked, outcomes, strict=True))
        self._asked -= told.keys()
        replies = {key: reply for key, reply in told.items() if isinstance(reply, Reply)}
        each = seconds / max(len(replies), 1)
        self._replies.add([self._row(key, asked[key], reply, each) for key, reply in replies.items()])
        for outcome in outcomes:
            if isinstance(outcome, NoReply) and outcome.stops:
                raise Paused(outcome.detail)
        return told

    def _row(self, key: str, conversation: Conversation, reply: Reply, seconds: float) -> KnownReply:
        return KnownReply(
            key=key,
            identity=conversation.identity,
            photo_sha256=hashlib.sha256(conversation.image_jpeg).hexdigest(),
            speaker=self._speaker.name,
            manner=self._speaker.manner,
            turn=(len(conversation.turns) + 1) // 2,
            text=reply.text,
            prompt_tokens=reply.prompt_tokens,
            new_tokens=reply.new_tokens,
            end=reply.end,
            seconds=seconds,
        )


def reply_key(conversation: Conversation, speaker: Speaker) -> str:
    """Hash of all that a reply depends on. The crop's bytes, not the original's: they are what the model sees."""
    photo = hashlib.sha256(conversation.image_jpeg).hexdigest()
    said = [conversation.system, list(conversation.turns), conversation.structured]
    whole = json.dumps([speaker.name, speaker.manner, photo, said], ensure_ascii=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def speeds(output: Output, speaker: Speaker) -> tuple[int, int, float] | None:
    """(replies, new tokens, seconds) of all that this speaker ever said for the dataset; None before it said a word."""
    replies, tokens, seconds = 0, 0, 0.0
    for name in output.names(FOLDER):
        if not _NAME.fullmatch(name):
            continue
        for row in _columns(output, f"{FOLDER}/{name}", ["speaker", "new_tokens", "seconds"]).to_pylist():
            if row["speaker"] == speaker.name:
                replies, tokens, seconds = replies + 1, tokens + row["new_tokens"], seconds + row["seconds"]
    return (replies, tokens, seconds) if replies else None


def _reply(row: KnownReply) -> Reply:
    end: End = "length" if row.end == "length" else "refused" if row.end == "refused" else "stop"
    return Reply(row.text, row.prompt_tokens, row.new_tokens, end)


def _bucket_in(name: str) -> tuple[int, int]:
    found = _NAME.search(name)
    assert found is not None
    return int(found[1]), int(found[2])


def _rows(output: Output, name: str) -> Iterable[KnownReply]:
    records: list[dict[str, Any]] = _columns(output, name, None).to_pylist()
    return [KnownReply(**record) for record in records]


def _columns(output: Output, name: str, columns: list[str] | None) -> pa.Table:
    try:
        with output.open(name) as file, pq.ParquetFile(file) as parquet:
            return parquet.read(columns=columns, use_threads=False)
    except pa.ArrowInvalid as error:
        raise InputError(f"{output.path(name)}: damaged: {str(error)[:100]}: remove it to ask again") from None
