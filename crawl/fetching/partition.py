"""What became of one host's targets: `tables/fetch/HOST.parquet`, and the journal of a fetch under way.

A row is known by its whole target; an address, in any spelling, is asked once for all the targets that share
it. Rows of targets no longer asked for are kept. Knows nothing of processes or the network.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crawl.fetching.journal import Journal, read_journal
from crawl.fetching.target import Fetched, Target
from crawl.output import Output
from crawl.photo import Rejection
from crawl.policy.canonical import BadUrl, canonical
from crawl.tables import arrow_schema, from_record, to_record

FOLDER = "tables/fetch"
_BATCH = 256

Record = dict[str, Any]
"""A Fetched as plain dicts and lists."""


class Partition:
    """One host: what is known, what is to be asked, and the file of results."""

    def __init__(self, host: str, targets: Sequence[Target], output: Output, refresh_before: str | None = None) -> None:
        """`refresh_before`: photos fetched earlier (ISO 8601, UTC, seconds) are re-checked."""
        self.host = host
        self._targets = targets
        self._output = output
        self._refresh_before = refresh_before
        self._name = f"{FOLDER}/{host_key(host)}.parquet"
        folder = journal_folder(output)
        os.makedirs(folder, exist_ok=True)
        self.journal = f"{folder}/{host_key(host)}.journal"
        self.todo = f"{folder}/{host_key(host)}.todo"
        self.pending = 0
        """How many the last plan asks for."""
        self._shared: dict[str, list[Record]] = {}

    def plan(self) -> int:
        """Write down what is to be asked, a JSON line each, re-checks first; returns how many.

        When nothing is, what an earlier call may have left open is settled here and now.
        """
        records = map(to_record, self._targets)
        wanted = {_key_of(record): record for record in records}
        done: set[str] = set()
        addresses: set[str] = set()
        self.pending = 0
        with open(self.todo, "w", encoding="utf-8", errors="replace") as todo:
            for key, record, in_this_run in self._records():
                if self._is_gone(record) or (record["retry"] and not in_this_run):
                    continue
                done.add(key)
                addresses.add(address_key(record["target"]["image_url"]))
                if not in_this_run and key in wanted and self._is_stale(record):
                    todo.write(_line(key, record["target"], record))
                    self.pending += 1
            self._shared = {}
            for key, target in wanted.items():
                if key in done:
                    continue
                address = address_key(target["image_url"])
                if address in addresses:
                    self._shared.setdefault(address, []).append(target)
                    continue
                addresses.add(address)
                todo.write(_line(key, target))
                self.pending += 1
        if not self.pending:
            self.settle()
        return self.pending

    def settle(self) -> None:
        """All of the plan has been asked: rows for those who share an address, then the table; the journal goes."""
        if self._shared:
            self._share()
            self._shared = {}
        if os.path.exists(self.journal):
            self._write()
            os.unlink(self.journal)
        if os.path.exists(self.todo):
            os.unlink(self.todo)

    def give_up(self, rejection: Rejection, agent: str, now: str, retry: bool, most: int | None = None) -> None:
        """A row that says why for each of the first `most` targets still to be asked, or for all of them."""
        if not self.plan():
            return
        journal = Journal(self.journal)
        with open(self.todo, encoding="utf-8") as todo:
            for line in itertools.islice(todo, most):
                errand = json.loads(line)
                row = to_record(refused(Target(**errand["target"]), rejection, agent, now, retry))
                journal.append({"key": errand["key"], "row": errand["known"] or row})
        journal.close()

    def rows(self) -> Iterator[Fetched]:
        """The latest row of each of this call's targets that has one."""
        wanted = {target_key(target) for target in self._targets}
        return (from_record(Fetched, record) for key, record, _ in self._records() if key in wanted)

    def _records(self) -> Iterator[tuple[str, Record, bool]]:
        """(key, row, whether the run under way made it), each target once, its latest row; old rows first."""
        latest = {line["key"]: number for number, line in enumerate(read_journal(self.journal))}
        for record in self._table():
            key = _key_of(record["target"])
            if key not in latest:
                yield key, record, False
        for number, line in enumerate(read_journal(self.journal)):
            if latest[line["key"]] == number:
                yield line["key"], line["row"], True

    def _table(self) -> Iterator[Record]:
        if not self._output.exists(self._name):
            return
        with self._output.open(self._name) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()

    def _is_gone(self, record: Record) -> bool:
        """Whether the row's photo is not there any more, as after a power cut; known on a local disk only."""
        if record["rejection"] is not None or not self._output.is_local:
            return False
        return not self._output.exists(f"photos/{record['sha256'][:2]}/{record['sha256']}.{record['suffix']}")

    def _is_stale(self, record: Record) -> bool:
        before = self._refresh_before
        return before is not None and record["rejection"] is None and bool(record["fetched_at"] < before)

    def _share(self) -> None:
        found = {}
        for _, record, _ in self._records():
            address = address_key(record["target"]["image_url"])
            if address in self._shared:
                found[address] = record
        journal = Journal(self.journal)
        for address, targets in self._shared.items():
            for target in targets:
                journal.append({"key": _key_of(target), "row": found[address] | {"target": target}})
        journal.close()

    def _write(self) -> None:
        schema = arrow_schema(Fetched).with_metadata({b"personae.host": self.host.encode()})
        rows = (record for _, record, _ in self._records())
        with self._output.create(self._name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while batch := list(itertools.islice(rows, _BATCH)):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def refused(target: Target, rejection: Rejection, agent: str, now: str, retry: bool) -> Fetched:
    """The row of a target that was never asked for."""
    return Fetched(target, None, None, now, "", 0, "bin", 0, None, None, None, (), agent, rejection, retry)


def host_key(host: str) -> str:
    """32 hex digits: safe in file names, whatever the host."""
    return _digest(host)


def target_key(target: Target) -> str:
    """32 hex digits that tell a target from every other."""
    return _key_of(to_record(target))


def address_key(url: str) -> str:
    """32 hex digits that tell a photo's address from every other, however it is spelt."""
    try:
        return _digest(canonical(url))
    except BadUrl:
        return _digest(url)


def _key_of(target: Record) -> str:
    return _digest(json.dumps(target, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _line(key: str, target: Record, known: Record | None = None) -> str:
    return json.dumps({"key": key, "target": target, "known": known}, ensure_ascii=False) + "\n"


def journal_folder(output: Output) -> str:
    """On this machine. For a dataset in an object store elsewhere: a restart on another machine does without it."""
    return output.path(FOLDER) if output.is_local else f"{tempfile.gettempdir()}/personae-{host_key(output.url)}"
