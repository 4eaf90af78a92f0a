"""Cached features after a takedown: what stays is copied, so that no encoder has to run again.

A feature's tar that no longer has the samples of its shard in one place is removed, and `python -m shards encode` makes
it again. Knows no encoder.
"""

from __future__ import annotations

import dataclasses

from crawl.output import Output
from shards.features.feature import FOLDER, INDEX, MADE_FROM, MadeFrom, feature_output, read_made_from, write_made_from
from shards.features.tars import FeatureTars
from shards.format.index import INDEX as BASE_INDEX
from shards.format.index import SHARD_NAME, Index, place_of, read_index
from shards.format.tar import ShardError
from shards.removal.intent import Intent
from shards.removal.tars import filtered, keys_in


def purge_features(output: Output, intent: Intent) -> None:
    """Every feature of the dataset, after its shards."""
    base = read_index(output) if output.exists(BASE_INDEX) else None
    for name in output.folders(FOLDER):
        folder = feature_output(output.url, name)
        made_from = read_made_from(folder)
        folder.remove_stale(["."])
        if made_from is None or base is None:
            _remove_all(folder)
            continue
        changed = dataclasses.replace(made_from, shards=_still_true(folder, made_from, base, intent))
        if changed != made_from:
            folder.remove(INDEX)
            write_made_from(folder, changed)
        tars = FeatureTars(output.url, changed, base)
        if not tars.pending:
            tars.begin()
            tars.finish()


def _remove_all(folder: Output) -> None:
    for name in folder.names(""):
        if SHARD_NAME.fullmatch(name) or name in (INDEX, MADE_FROM):
            folder.remove(name)


def _still_true(folder: Output, made_from: MadeFrom, base: Index, intent: Intent) -> dict[str, str]:
    """Finished tar → SHA-256 of its shard, after those of the concerned buckets were brought in line or removed."""
    numbers = {shard.file: number for number, shard in enumerate(base.shards)}
    true = dict(made_from.shards)
    for name in folder.names(""):
        if not SHARD_NAME.fullmatch(name) or place_of(name)[0] not in intent.buckets:
            continue
        before, number = true.pop(name, None), numbers.get(name)
        now = None if number is None else base.shards[number].sha256
        was_true = before is not None and before in (intent.shards.get(name), now)
        if number is not None and now is not None and was_true and _fits(folder, name, base, number):
            true[name] = now
        else:
            folder.remove(name)
    return dict(sorted(true.items()))


def _fits(folder: Output, name: str, base: Index, number: int) -> bool:
    """Bring a feature's tar in line with its shard; False when it lacks one of the samples."""
    positions = base.positions_in(number)
    wanted = [key.decode() for key in base.keys[positions.start : positions.stop]]
    try:
        there = keys_in(folder, name)
    except ShardError:
        return False
    keep = set(wanted)
    if [key for key in there if key in keep] != wanted:
        return False
    if len(there) > len(wanted):
        filtered(folder, name, name, keep.__contains__, dict.fromkeys(wanted, ""))
    return True
