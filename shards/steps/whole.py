"""The files that speak of a whole dataset: written last, from the tables, and stamped with what they were made from.

And the run file of a finished dataset, read back from `config.resolved.yaml`. Knows nothing of Ray.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from crawl.errors import InputError
from crawl.output import Output
from crawl.tables import Tables, fingerprint
from crawl.tombstones import read_tombstones
from filter.doubles import find_doubles
from filter.names import Finding
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import write_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import ledger_fingerprint, write_ledger
from shards.beside.resolved import RESOLVED, read_resolved
from shards.config import BuildRun
from shards.format.index import INDEX, write_index
from shards.steps.pack import index_rows, shard_rows

_VERSION = 1


def whole_stamp(run: BuildRun, output: Output, doubles: Mapping[str, Finding]) -> str:
    """Of all that the ledger and the index are made from."""
    tables = Tables(output)
    return fingerprint(_VERSION, [tables.fingerprint("shards", b) for b in range(run.shards.buckets)], sorted(doubles))


def is_whole(output: Output, stamp: str) -> bool:
    return all(output.exists(name) for name in (INDEX, IDENTITIES)) and ledger_fingerprint(output) == stamp


def write_whole(run: BuildRun, output: Output, stamp: str) -> None:
    """The ledger last, since its stamp says they are done."""
    buckets = run.shards.buckets
    version = read_tombstones(output).version
    write_index(output, buckets, shard_rows(output, buckets), index_rows(output, buckets), version=version)
    write_identities(output, buckets, find_doubles(run, output))
    output.remove(LEDGER)
    write_ledger(output, buckets, stamp)


def resolved_run(output: Output) -> BuildRun | None:
    """The settings that a dataset was built with; None where there are none. Its `output` is this folder, as it is."""
    return read_resolved(output).model_copy(update={"output": output.url}) if output.exists(RESOLVED) else None


@contextmanager
def only_one(output: Output) -> Iterator[None]:
    """Two commands that write into one folder would undo each other's work. The lock dies with the process."""
    if not output.is_local:
        yield
        return
    tables = output.path("tables")
    descriptor = os.open(
        f"{tables}/.lock" if os.path.isdir(tables) else output.path(""),
        os.O_RDWR | os.O_CREAT if os.path.isdir(tables) else os.O_RDONLY,
        0o644,
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"{output.url}: another build is writing here") from None
    finally:
        os.close(descriptor)
