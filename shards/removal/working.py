"""Taking rows out of a dataset that has its working tables, and making its shards again from what is left.

Each step may be done again, and does then nothing. What stays of a person is judged again without what went, since
scores and centres speak of the group; no photo is decoded and no model is asked. Knows nothing of requests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from crawl.collect import numbered
from crawl.found import FOUND, FOUND_PEOPLE, scrub_found
from crawl.output import Output
from crawl.photo import Photo
from crawl.returned import FETCH, WANTED, scrub_fetched, scrub_targets
from crawl.scrub import keep_rows, mentions, scrub_folder, scrub_tables
from crawl.stage import Stage
from crawl.tables import Entry, Tables, to_record
from crawl.tombstones import REMOVED, nameless, read_tombstones
from crawl.wanted import TARGETS
from filter.decide import Verified, VerifyStage
from filter.doubles import find_doubles
from filter.names import Finding
from filter.portrait import Portrait
from filter.scan import Scanned
from shards.config import BuildRun
from shards.format.index import FOLDER, SHARD_NAME
from shards.removal.intent import Intent
from shards.removal.truth import restamp_tables, restamp_targets, stages
from shards.steps.pack import TARS, PackStage
from shards.steps.whole import whole_stamp, write_whole

_TYPED = frozenset({TARGETS, FETCH.split("/")[1], WANTED.split("/")[1], FOUND, FOUND_PEOPLE, "crawl", TARS, "shards"})
"""Folders of tables that are not simply rid of rows."""


def purge_tables(run: BuildRun, output: Output, intent: Intent) -> None:
    """Take everything out of the tables, and make the concerned buckets' tars of what is left."""
    words, buckets = frozenset(intent.words), run.shards.buckets
    scrub_targets(output, read_tombstones(output))
    scrub_fetched(output, words)
    scrub_found(output, buckets, words)
    for bucket in intent.buckets:
        _rewrite_crawl(output, bucket, words, intent.removed[str(bucket)])
    scrub_tables(output, words, leave=_TYPED)
    scrub_folder(output, f"tables/{TARGETS}", words)
    restamp_targets(run, output, intent.true_targets)
    for bucket in intent.buckets:
        _judge_again(run, output, bucket, intent.true_tables.get(str(bucket), ()))
    steps, doubles = list(stages(run, output)), find_doubles(run, output)
    aside = doubles if run.filter.verify.set_aside_same_person else {}
    for bucket in intent.buckets:
        _settle(output, bucket, intent, steps, aside)


def write_what_is_left(run: BuildRun, output: Output, intent: Intent) -> None:
    """Ledger, index, identities and card; of an unfinished dataset none, until the build makes them."""
    if intent.finished:
        write_whole(run, output, whole_stamp(run, output, find_doubles(run, output)))


def _rewrite_crawl(output: Output, bucket: int, words: frozenset[str], removed: Mapping[str, int]) -> None:
    tables = Tables(output)
    stamp = tables.fingerprint("crawl", bucket)
    if stamp is not None:
        there = [e for e in tables.read("crawl", bucket, Photo) if e.rejection != REMOVED]
        there = [entry for entry in there if not mentions(to_record(entry), words)]
        gone = [Entry("", nameless(identity), REMOVED) for identity, count in removed.items() for _ in range(count)]
        tables.write("crawl", bucket, Photo, numbered([*there, *gone], bucket), stamp)


def _judge_again(run: BuildRun, output: Output, bucket: int, true: Collection[str]) -> None:
    stamp = Tables(output).fingerprint("verify", bucket)
    if stamp is not None and "verify" in true:
        VerifyStage(run, output).run(bucket, stamp, _silent)


def _settle(output: Output, bucket: int, intent: Intent, steps: Sequence[Stage], aside: Mapping[str, Finding]) -> None:
    """Crops in line with verdicts, stamps with what the build will ask for, and the tars of what is left."""
    true = list(intent.true_tables.get(str(bucket), ()))
    if "verify" in true and not _refit(output, bucket, aside):
        true = [name for name in true if name not in ("crop", "caption", "shards")]  # the build will cut again
    restamp_tables(output, (step for step in steps if step.name != "shards"), bucket, true)
    packed = Tables(output).fingerprint("shards", bucket)
    if not intent.finished:
        _remove_shards(output, bucket)
    elif packed is not None:
        pack = next(step for step in steps if isinstance(step, PackStage))
        pack.run(bucket, pack.fingerprint(bucket) if "shards" in true else packed, _silent)


def _remove_shards(output: Output, bucket: int) -> None:
    """Of an unfinished dataset: made again by the build."""
    for name in output.names(FOLDER):
        match = SHARD_NAME.fullmatch(name)
        if match and int(match[1]) == bucket:
            output.remove(f"{FOLDER}/{name}")
    for folder in ("shards", TARS):
        output.remove(f"tables/{folder}/{bucket:05d}.parquet")


def _refit(output: Output, bucket: int, aside: Mapping[str, Finding]) -> bool:
    """Bring the crops in line with the verdicts; False when one is missing, or shows another face than is verified."""
    tables = Tables(output)
    stamp = tables.fingerprint("crop", bucket)
    if stamp is None:
        return True
    verified = {e.key: e.row for e in tables.read("verify", bucket, Verified) if e.row is not None}
    scores, owners = {}, {}
    for scanned in (e.row for e in tables.read("scan", bucket, Scanned) if e.row is not None):
        scores[scanned.photo.key] = tuple(face.score for face in scanned.faces)
        owners[scanned.photo.key] = scanned.photo.identity
    tables.write("crop", bucket, Portrait, _refitted(tables, bucket, verified, scores), stamp)
    cut = tables.rejections("crop", bucket)
    for folder in ("caption", "efforts"):
        _keep_only(output, folder, bucket, {key for key, rejection in cut.items() if rejection is None})
    was_aside = {(owners[key], r.detail) for key, r in cut.items() if r is not None and r.stage == "names"}
    is_aside = {(i, aside[i].same_as) for i in {owners[key] for key in verified} if i in aside}
    return cut.keys() == verified.keys() and was_aside == is_aside


def _refitted(
    tables: Tables, bucket: int, verified: Mapping[str, Verified], scores: Mapping[str, tuple[float, ...]]
) -> Iterator[Entry[Portrait]]:
    for entry in tables.read("crop", bucket, Portrait):
        verdict = verified.get(entry.key)
        if verdict is None:
            continue
        if entry.row is None:
            yield entry
        elif scores[entry.key][verdict.face_index] == entry.row.face_score:
            yield Entry(entry.key, dataclasses.replace(entry.row, identity_score=verdict.score))


def _keep_only(output: Output, folder: str, bucket: int, keys: set[str]) -> None:
    name = f"tables/{folder}/{bucket:05d}.parquet"
    if output.exists(name):
        keep_rows(output, name, keys)


def _silent(stage: str, photos: int) -> None:
    pass
