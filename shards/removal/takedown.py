"""`python -m shards takedown`: people and photos out of a dataset, for good, and tombstones in their place.

What is to be done is written down first, so that a takedown that was killed at any moment is ended by the same command.
The order: tombstones, originals, tables, shards, features, the files that speak of the whole dataset, the intent.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from crawl.errors import InputError
from crawl.output import Output
from crawl.tables import Tables
from crawl.tombstones import FILE as TOMBSTONES
from crawl.tombstones import REMOVED, read_tombstones, write_tombstones
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.ledger import FILE as LEDGER
from shards.card.croissant import CROISSANT
from shards.card.write import CARD, write_card
from shards.config import BuildRun
from shards.format.index import FOLDER, INDEX, read_index
from shards.removal.cached import purge_features
from shards.removal.intent import FILE as INTENT
from shards.removal.intent import Intent, end_intent, read_intent, write_intent
from shards.removal.plan import Plan, plan
from shards.removal.published import purge_published
from shards.removal.request import Request, add_request_arguments, requests_of
from shards.removal.working import purge_tables, write_what_is_left
from shards.report.write import REPORT, write_report
from shards.steps.whole import only_one, resolved_run

_SALT_BYTES = 16
_FEW = 50
_OURS = frozenset({"photos", "tables", "shards", "features"})
_TELLING = 4
"""Characters of a word that is not found everywhere by chance."""


@dataclass(frozen=True, slots=True)
class TakenDown:
    """What a takedown did, for the person who ran it."""

    intent: Intent
    changed: tuple[str, ...]
    """Files of the published dataset that are new."""
    deleted: tuple[str, ...]
    """Files of the published dataset that are gone."""
    mentions: tuple[str, ...]
    """Files that are not the dataset's own and still mention it."""

    @property
    def left(self) -> int:
        return len(self.mentions)


def take_down(
    output: Output,
    requests: Iterable[Request],
    with_aliases: bool = True,
    dry_run: bool = False,
    keys: Collection[str] = (),
    step: Callable[[str], None] = lambda name: None,
) -> tuple[list[TakenDown], Plan | None]:
    """End what was interrupted, then take down what is asked for. `keys`: photos, besides. `step` hears what is begun.

    Raises InputError, with nothing changed, for what the dataset does not have.
    """
    done: list[TakenDown] = []
    asked = list(requests)
    if not (output.exists(INDEX) or output.exists(LEDGER) or output.names("tables/crawl")):
        raise InputError(f"{output.url}: no dataset here ({INDEX} is missing)")
    with contextlib.nullcontext() if dry_run else only_one(output):
        run = _working_run(output)
        unfinished = read_intent(output)
        if unfinished is not None and not dry_run:
            done.append(_carry_out(output, run, unfinished, step))
            asked = [r for r in asked if str(r) not in unfinished.asked]
        if not asked and not keys:
            return done, None
        planned = plan(output, run, asked, with_aliases, keys)
        if planned.intent is not None and not dry_run:
            step("intent")
            write_intent(output, planned.intent)
            done.append(_carry_out(output, run, planned.intent, step))
    return done, planned


def forget_returned(run: BuildRun, output: Output) -> None:
    """During a build: pictures that were taken down and were found again, in other bytes, are taken down again."""
    tables = Tables(output)
    found = [tables.rejections("scan", bucket) for bucket in range(run.shards.buckets)]
    keys = {key for rejections in found for key, rejection in rejections.items() if rejection == REMOVED}
    if keys:
        intent = plan(output, run, [], False, keys).intent
        assert intent is not None, "photos of the scan are known to the crawl"
        intent = dataclasses.replace(intent, version=read_tombstones(output).version)
        write_intent(output, intent)
        _carry_out(output, run, intent, lambda name: None)


def _working_run(output: Output) -> BuildRun | None:
    """The settings of a folder that has its tables; None for one that has only what is published."""
    if not output.names("tables/crawl"):
        return None
    run = resolved_run(output)
    if run is None:
        raise InputError(f"{output.url}: has tables but no config.resolved.yaml: build it once more first")
    return run


def _carry_out(output: Output, run: BuildRun | None, intent: Intent, step: Callable[[str], None]) -> TakenDown:
    step("tombstones")
    salt = os.urandom(_SALT_BYTES).hex()
    write_tombstones(output, read_tombstones(output).with_items(intent.items, salt, intent.version))
    step("report")
    output.remove(REPORT)
    step("originals")
    for name in intent.files:
        output.remove(name)
    if run is None:
        step("shards")
        purge_published(output, intent)
    else:
        step("tables")
        purge_tables(run, output, intent)
        if not intent.finished:
            for name in (INDEX, LEDGER, IDENTITIES, CARD, CROISSANT):
                output.remove(name)
        step("whole")
        write_what_is_left(run, output, intent)
    step("features")
    purge_features(output, intent)
    step("card")
    _remake_card(output)
    _remove_leftovers(output)
    step("end")
    end_intent(output)
    return _outcome(output, intent)


def _remake_card(output: Output) -> None:
    """A dataset without its settings keeps its card: somebody else wrote it."""
    run = resolved_run(output)
    if run is not None and output.exists(LEDGER) and output.exists(IDENTITIES) and output.exists(INDEX):
        write_card(run, output)


def _remove_leftovers(output: Output) -> None:
    """Half-written files of whatever was killed here: they may hold anything."""
    tables = [f"tables/{name}" for name in output.folders("tables")]
    photos = [f"photos/{name}" for name in output.folders("photos")]
    features = [f"features/{name}" for name in output.folders("features")]
    output.remove_stale(["", FOLDER, "tables", *tables, *photos, *features])


def _outcome(output: Output, intent: Intent) -> TakenDown:
    now = {s.file: s.sha256 for s in read_index(output).shards} if output.exists(INDEX) else {}
    changed = sorted(f"{FOLDER}/{file}" for file, sha256 in now.items() if intent.shards.get(file) != sha256)
    deleted = sorted(f"{FOLDER}/{file}" for file in intent.shards if file not in now)
    whole = [name for name in (INDEX, LEDGER, CARD, CROISSANT) if output.exists(name)]
    return TakenDown(intent, (*changed, *whole), tuple(deleted), tuple(still_mentioned(output, intent)))


def still_mentioned(output: Output, intent: Intent) -> list[str]:
    """Files that were put beside the dataset's own, or written by hand, and mention what was taken down."""
    words = [word.encode() for word in intent.words if len(word) >= _TELLING]
    names = list(output.names(""))
    folders = [name for name in output.folders("") if name not in _OURS]
    while folders:
        folder = folders.pop()
        names += [f"{folder}/{name}" for name in output.names(folder)]
        folders += [f"{folder}/{name}" for name in output.folders(folder)]
    return [name for name in sorted(names) if any(word in output.read(name) for word in words)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a dataset folder or URL")
    add_request_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")
    parser.add_argument(
        "--only-this-name",
        action="store_true",
        help="leave other names in that were found to be the same person (they may then come into the shards)",
    )
    parser.set_defaults(command=command)


def command(parsed: argparse.Namespace) -> int:
    """Exit code 0 when all that was asked for is gone."""
    output = Output(parsed.dataset)
    any_request = any(getattr(parsed, kind) for kind in ("identity", "url", "domain", "sha256", "list"))
    requests = requests_of(parsed) if any_request or not output.exists(INTENT) else []
    had_report = output.exists(REPORT)
    done, planned = take_down(output, requests, not parsed.only_this_name, parsed.dry_run)
    if planned is not None:
        for line in _announced(planned, parsed.dry_run):
            print(line)
    left = 0
    for outcome in done:
        for line in _told(output, outcome):
            print(line)
        left += outcome.left
    if had_report and not output.exists(REPORT):
        print(_report_remade(output))
    return 1 if left else 0


def _report_remade(output: Output) -> str:
    """The old one showed who is gone; a killed takedown has removed it, and leaves making it to the user."""
    try:
        return f"{write_report(output.url)[0]} was made anew"
    except InputError as error:
        return f"{output.path(REPORT)} is gone, and was not made anew: {error}"


def _announced(planned: Plan, dry_run: bool) -> list[str]:
    lines = [f"{request}: taken down before" for request in planned.already]
    intent = planned.intent
    if intent is None:
        return lines
    rows = [gone for gone in intent.gone if gone.key]
    kept = sum(gone.kept for gone in rows)
    verb = "Would take down" if dry_run else "Took down"
    lines.append(f"{verb} {len(rows)} photos, {kept} of them in the shards, {len(intent.identities)} people:")
    lines += [f"  {identity} {planned.names.get(identity, '')}".rstrip() for identity in intent.identities]
    if planned.aliases:
        lines.append(f"  of these, found to show the same person: {', '.join(planned.aliases)} (see --only-this-name)")
    lines.append(f"  buckets {', '.join(f'{b:05d}' for b in intent.buckets)}; {len(intent.files)} originals")
    if dry_run:
        lines += [f"  {text}" for text in planned.photos[:_FEW]]
        lines += [f"  … and {len(planned.photos) - _FEW} more"] if len(planned.photos) > _FEW else []
    if planned.local:
        lines.append(
            f"  {planned.local} of them also lie in a folder of yours (crawl.root), which was not touched: "
            "delete them there yourself; until then every build passes them over"
        )
    return lines


def _told(output: Output, outcome: TakenDown) -> list[str]:
    lines = [f"Dataset version {outcome.intent.version}; tombstones in {output.url.rstrip('/')}/{TOMBSTONES}"]
    lines += [f"{name} still mentions it: look at it yourself, Personae did not write it" for name in outcome.mentions]
    if not outcome.intent.finished:
        return [*lines, "The dataset was unfinished: its build, run again, makes the shards and everything of them"]
    staged = f"{output.url.rstrip('/')}.publish"
    if output.is_local and os.path.isdir(staged):
        lines.append(f"{staged}: a copy staged for publishing still holds it: delete it, or stage it again")
    lines.append("To push to the hub, in one commit:")
    lines += [f"  upload  {name}" for name in outcome.changed]
    lines += [f"  delete  {name}" for name in outcome.deleted]
    lines.append(
        "  then remove older revisions and tags there (super_squash_history): they still hold what was removed"
    )
    return lines
