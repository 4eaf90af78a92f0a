"""`python -m shards publish DATASET OWNER/NAME`: stage a clean copy, check it, show it; with `--yes` send it.

Card and Croissant of the copy are read by their own libraries, and every number in them is recomputed, before anything
leaves this machine.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from pathlib import Path

from rich.table import Table

from crawl.command import console
from crawl.errors import InputError, one_line
from crawl.output import Output
from shards.beside.resolved import read_resolved
from shards.card.check import differences
from shards.card.croissant import CROISSANT
from shards.card.write import CARD
from shards.publish.hub import default_api, send
from shards.publish.staging import Staged, default_folder, stage

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_MISSING = "pip install 'personae[publish]'"


def add_publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a dataset folder or URL")
    parser.add_argument("repo", metavar="OWNER/NAME", help="the dataset's place on the Hugging Face hub")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="publish.version=1.1.0")
    sending = parser.add_mutually_exclusive_group()
    sending.add_argument("--dry-run", action="store_true", help="send nothing; the default")
    sending.add_argument("--yes", "--no-dry-run", action="store_true", help="send it")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", default="main", help="the branch to send to; default: main")
    parser.add_argument("--staging", type=Path, help="folder for the copy; default: DATASET.publish")


def publish_command(parsed: argparse.Namespace) -> int:
    """Exit code 0 when all is fit to go, and with `--yes` there."""
    if not _REPO.fullmatch(parsed.repo):
        raise InputError(f"{parsed.repo}: expected OWNER/NAME, a dataset's place on the Hugging Face hub")
    output = Output(parsed.dataset)
    run = read_resolved(output, parsed.overrides)
    staged = stage(run, output, parsed.repo, parsed.staging or default_folder(output))
    validate(staged)
    show(staged, parsed.repo)
    if not parsed.yes:
        print("Nothing was sent: this is a dry run. Add --yes to send it.")
        return 0
    tag = f"v{staged.facts.version}"
    sent = send(
        staged.folder, staged.files, parsed.repo, tag, default_api(), private=parsed.private, revision=parsed.revision
    )
    gone = f", {sent.removed} of an earlier version removed" if sent.removed else ""
    print(
        f"{sent.url}: {sent.files} files sent ({sent.num_bytes:,} bytes, {sent.commits} commits), "
        f"{sent.there} were there{gone}; tagged {tag}"
    )
    return 0


def validate(staged: Staged) -> None:
    """Raises InputError when card or Croissant of the copy are not valid, or not true."""
    lines = differences(Output(str(staged.folder)))
    if lines:
        raise InputError(f"{staged.folder}: {len(lines)} numbers are not true: {lines[0]}")
    _validate_card(staged.folder / CARD)
    _validate_croissant(staged.folder / CROISSANT)


def _validate_card(path: Path) -> None:
    try:
        from huggingface_hub import DatasetCard
    except ImportError as error:
        raise InputError(f"{one_line(error)}: {_MISSING}") from None
    text = path.read_text(encoding="utf-8")
    try:
        again = str(DatasetCard(text))
    except ValueError as error:
        raise InputError(f"{path}: not a dataset card: {one_line(error)}") from None
    if again.split("---", 2)[2].strip() != text.split("---", 2)[2].strip():
        raise InputError(f"{path}: huggingface_hub reads it otherwise than it is written")


def _validate_croissant(path: Path) -> None:
    try:
        import mlcroissant
        from absl import logging
    except ImportError as error:
        raise InputError(f"{one_line(error)}: {_MISSING}") from None
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # what is recommended and not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlcroissant.Dataset(str(path))
    except (mlcroissant.ValidationError, ValueError) as error:
        raise InputError(f"{path}: not valid Croissant: {one_line(error)[:300]}") from None
    finally:
        logging.set_verbosity(verbosity)


def show(staged: Staged, repo: str) -> None:
    """What goes, what stays behind, and why."""
    out, facts = console(), staged.facts
    goes = Table("goes", "files", "bytes", title=f"{repo}, version {facts.version}", title_justify="left")
    behind = Table("stays behind", "files", "bytes", "why")
    for table in (goes, behind):
        for column in table.columns[1:3]:
            column.justify = "right"
    sizes, counts = Counter[str](), Counter[str]()
    for path, num_bytes in staged.files.items():
        kind = "shards/*.tar" if path.endswith(".tar") else path
        sizes[kind] += num_bytes
        counts[kind] += 1
    for kind in sizes:
        goes.add_row(kind, str(counts[kind]), f"{sizes[kind]:,}")
    goes.add_row("together", str(len(staged.files)), f"{sum(staged.files.values()):,}")
    for left in staged.left:
        behind.add_row(left.name, str(left.files), f"{left.num_bytes:,}", left.why)
    out.print(goes)
    out.print(behind)
    publish = facts.run.publish
    names = f"published ({publish.names_reason})" if publish.names else "taken out of identities.parquet; in no sample"
    contact = publish.contact or "the discussions of the dataset's page (publish.contact names a better place)"
    for what, said in (
        ("samples", f"{facts.kept} of {facts.people} people, in {len(facts.shards)} shards"),
        ("names", names),
        ("ledger", "counts and reasons of all photos; addresses and authors of those in the shards only"),
        ("licence", f"the most restrictive: {facts.strictest}"),
        ("removal", contact),
        ("checked", f"{CARD} and {CROISSANT} are valid, and their numbers true"),
        ("copy", str(staged.folder)),
    ):
        out.print(f"{what:<8} {said}")
