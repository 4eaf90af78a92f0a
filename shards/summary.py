"""The tables a person reads when a build ends, and in `python -m shards info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from crawl.command import console, in_words
from crawl.errors import InputError
from crawl.output import Output
from crawl.status import unlisted
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import Identity, read_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import FunnelStep, funnel, read_ledger
from shards.format.index import INDEX, read_index

if TYPE_CHECKING:
    from shards.build import Built

_FEW = 20


def print_summary(output: Output, built: Built) -> None:
    """The closing table of a build: funnel, findings, throughput, where things are."""
    out = console()
    _print_dataset(out, output, built.identities)
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in built.seconds.items())
    total = sum(built.seconds.values())
    found = read_ledger(output, ["key"]).num_rows
    speed = f" — {found / total:.1f} photos/s" if built.worked and total > 0 else ""
    out.print(f"{'Built' if built.worked else 'Nothing to do; checked'} in {total:.1f} s ({took}){speed}")


def print_info(output: Output) -> None:
    """What is in a finished dataset. Raises InputError when the folder holds none."""
    for name in (LEDGER, IDENTITIES, INDEX):
        if not output.exists(name):
            raise InputError(f"{output.url}: no finished dataset here ({name} is missing)")
    _print_dataset(console(), output, read_identities(output))


def _print_dataset(out: Console, output: Output, identities: list[Identity]) -> None:
    out.print(_funnel_table(funnel(read_ledger(output, ["stage", "reason"]))))
    if left_out := unlisted(output):
        out.print(f"Not listed by the sources: {in_words(left_out)}")
    for line in findings(identities):
        out.print(line)
    index = read_index(output)
    kept = [i for i in identities if i.kept]
    size = sum(shard.num_bytes for shard in index.shards) / 1e6
    out.print(
        f"{len(kept)} of {len(identities)} identities kept, {sum(i.kept for i in kept)} samples "
        f"in {len(index.shards)} shards ({size:.1f} MB)"
    )
    for what, name in (("shards", "shards"), ("ledger", LEDGER), ("card", "README.md")):
        out.print(f"{what:<7} {output.url.rstrip('/')}/{name}")


def _funnel_table(steps: list[FunnelStep]) -> Table:
    table = Table("stage", "photos in", "left", "ended here, and why", title="Funnel", title_justify="left")
    for column in table.columns[1:3]:
        column.justify = "right"
    for step in steps:
        reasons = ", ".join(f"{count} {reason}" for reason, count in step.reasons)
        table.add_row(step.stage, str(step.entered), str(step.left), reasons)
    return table


def findings(identities: list[Identity]) -> list[str]:
    """What a person should look at: second persons, names without a majority, two names for one person."""
    names = {i.identity: i.name for i in identities}
    lines = [
        *(
            f"{i.name}: {i.second_person_photos} photos show one other person"
            for i in identities
            if i.second_person_photos
        ),
        *(f"{i.name}: no person is in most of the photos; none kept" for i in identities if i.no_majority),
        *(_double(i, names.get(i.same_as, i.same_as)) for i in identities if i.same_as is not None),
    ]
    more = len(lines) - _FEW
    return [*lines[:_FEW], f"… and {more} more findings in {IDENTITIES}"] if more > 0 else lines


def _double(identity: Identity, other: str) -> str:
    aside = "" if identity.kept else "; set aside"
    return f"{identity.name}: same person as {other} (cosine {identity.same_as_cosine:.2f}){aside}"
