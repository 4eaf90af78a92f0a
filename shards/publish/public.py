"""What of a dataset's tables and settings may be seen by everybody: each stripped to what licences and counts need.

Of photos that are in the shards the provenance stays, since licences ask for it; of all others only that they were
there, where they ended and why. Paths of this machine, addresses of its services and names of people go. Knows nothing
of folders and files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.beside.identities import Identity
from shards.card.facts import CARRIED, Carried, is_path
from shards.config import BuildRun, EngineConfig

WITHHELD = "withheld"
_OF_KEPT = ("key", "identity", "sha256", "num_bytes", "licence", "author", "page_url", "image_url", "fetched_at",
            "signals", "attribution")  # fmt: skip
_OF_ALL = ("bucket", "status", "stage", "reason", "value", "threshold")
_HERE = ("root", "path", "key_env", "token_env")
"""Of a source or a list of people: paths, and names of variables."""


def public_ledger(ledger: pa.Table, carried: Carried) -> pa.Table:
    """Same columns and rows. `source` and the columns of answers and details are emptied everywhere."""
    kept = pc.equal(ledger["status"], "kept")
    columns = [_column(ledger, field, kept) for field in ledger.schema]
    told = json.dumps(dataclasses.asdict(carried), sort_keys=True).encode()
    return pa.table(columns, schema=ledger.schema.with_metadata({CARRIED: told}))


def _column(ledger: pa.Table, field: pa.Field, kept: Any) -> Any:
    if field.name in _OF_ALL:
        return ledger[field.name]
    empty = pa.scalar(_EMPTY.get(field.name), field.type)
    if field.name in _OF_KEPT:
        return pc.if_else(kept, ledger[field.name], empty)
    return pa.chunked_array([pa.repeat(empty, ledger.num_rows)])


_EMPTY = {"key": "", "identity": "", "source": "", "sha256": "", "num_bytes": 0, "signals": ""}
"""Of columns that are never null."""


def public_identities(identities: Iterable[Identity], there: Collection[str], names: bool) -> list[Identity]:
    """People in the shards without names, unless `names`; of all others only that they were looked for."""
    return [
        dataclasses.replace(person, name=person.name if names else "", same_as=None, same_as_cosine=None)
        if person.identity in there
        else dataclasses.replace(_NOBODY, basis=person.basis, bucket=person.bucket)
        for person in identities
    ]


_NOBODY = Identity("", "", "", "", 0, 0, 0, (), 0, False, None, None)


def public_settings(run: BuildRun, repo: str, version: str) -> BuildRun:
    """Without paths, addresses of services, names of variables that hold keys, and the crawler's contact."""
    document = run.model_dump(mode="json")
    crawl, caption = document["crawl"], document["caption"]
    for part in [*crawl["sources"], crawl["people"] or {}]:
        part |= {key: WITHHELD for key in _HERE if part.get(key)}
    crawl |= {"contact": WITHHELD, "own_hosts": []}
    if caption["endpoint"]["url"]:
        caption["endpoint"] |= {"url": f"https://{WITHHELD}.invalid", "key_env": None, "parameters": {}}
    caption |= {"model": _public_name(caption["model"]), "prompt": _public_name(caption["prompt"])}
    for classifier in document["filter"]["classifiers"]:
        classifier["model"] = _public_name(classifier["model"])
    document["filter"]["vitpose_model"] = _public_name(document["filter"]["vitpose_model"])
    document["engine"] = EngineConfig().model_dump(mode="json")
    document["publish"] |= {"repo": repo, "version": version}
    return BuildRun.model_validate({**document, "output": "."})


def _public_name(name: str | None) -> str | None:
    """A name on the hub or a prompt of ours as it is; of a path nothing."""
    if name is None:
        return None
    return WITHHELD if is_path(name) or name.endswith(".txt") else name
