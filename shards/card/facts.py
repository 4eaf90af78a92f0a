"""Every number and name that card and Croissant state of a dataset, worked out from its folder alone.

From the ledger, the index, the identities, one sample, and the resolved settings. Names no person: identities are
counted. Knows nothing of Markdown or JSON-LD.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caption.captioner import BACKENDS
from caption.models import licences as caption_licences
from crawl.errors import InputError, one_line
from crawl.licence import most_restrictive
from crawl.output import Output
from crawl.status import unlisted
from filter.models import EMBEDDERS, licences, min_face_score
from shards.beside.identities import FILE as IDENTITIES
from shards.beside.identities import UNKNOWN_LICENCE, Identity, read_identities
from shards.beside.ledger import FILE as LEDGER
from shards.beside.ledger import FunnelStep, funnel, read_ledger
from shards.beside.version import dataset_version
from shards.config import BuildRun
from shards.format.index import Index, ShardRow, read_index
from shards.format.tar import ShardError
from shards.read import Dataset

CARRIED = b"personae.card"
"""In the metadata of a published ledger: `Carried`, which the stripped folder can no longer tell."""
OPT_OUTS = ("opted_out", "robots_disallowed", "robots_unreachable")
_COLUMNS = ("status", "stage", "reason", "threshold", "licence", "num_bytes", "fetched_at")
_PEOPLE_EDGES = (1, 5, 10, 30, 100)
_KB_EDGES = (0, 100, 300, 1000, 3000, 10_000)


@dataclass(frozen=True, slots=True)
class Carried:
    """What only the folder of the build knows, and a published copy is told."""

    unlisted: Mapping[str, int]
    """Reason → how often sources saw something and did not list it."""
    models: Sequence[str]
    """Model and licence, one line each."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Photos that one stage ended for one reason."""

    stage: str
    reason: str
    photos: int
    threshold: str
    """What they were compared with, "" where there was nothing to compare: `0.4`, or `0.35 … 0.4`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is stated."""

    run: BuildRun
    version: str
    statuses: Mapping[str, int]
    """kept, rejected, failed, removed → photos."""
    funnel: Sequence[FunnelStep]
    """Without the removed."""
    ended: Sequence[Ended]
    opt_outs: Mapping[str, int]
    """Reason of OPT_OUTS → photos and pages left alone."""
    unlisted: Mapping[str, int]
    names: int
    """Names that photos were looked for."""
    people: int
    bases: Sequence[tuple[str, int]]
    """(basis, people in the shards), most first."""
    per_person: Sequence[tuple[str, int]]
    """(photos, people)."""
    per_size: Sequence[tuple[str, int]]
    """(size of the original, photos)."""
    licences: Sequence[tuple[str, int]]
    """(licence, photos), most first."""
    strictest: str | None
    models: Sequence[str]
    made_by: str
    """Who wrote the captions."""
    shards: Sequence[ShardRow]
    fetched: tuple[str, str] | None
    """First and last day, UTC; None when all photos were local files."""

    @property
    def kept(self) -> int:
        return self.statuses["kept"]

    @property
    def num_bytes(self) -> int:
        return sum(shard.num_bytes for shard in self.shards)

    @property
    def threshold(self) -> float:
        """Least cosine to a person's centre."""
        given = self.run.filter.verify.threshold
        return EMBEDDERS[self.run.filter.embedder_name].threshold if given is None else given

    @property
    def min_face_score(self) -> float:
        return min_face_score(self.run.filter)

    @property
    def non_commercial(self) -> bool:
        """Whether weights took part that may be used for research only."""
        return any("non-commercial" in line for line in self.models)


def gather(run: BuildRun, output: Output) -> Facts:
    """Read it all. Raises InputError for a folder that is not a finished dataset."""
    ledger, people = _tables(output)
    kept = ledger.filter(pc.equal(ledger["status"], "kept"))
    living = ledger.filter(pc.not_equal(ledger["status"], "removed"))
    index = read_index(output)
    there = [person for person in people if person.identity in index.identities]
    made_by = _made_by(run, output, index)
    carried = read_carried(output) or carry(run, output, made_by)
    licence_counts = Counter(licence or UNKNOWN_LICENCE for licence in kept["licence"].to_pylist())
    days = sorted(day[:10] for day in kept["fetched_at"].to_pylist() if day)
    statuses = Counter(ledger["status"].to_pylist())
    return Facts(
        run=run,
        version=dataset_version(run, output),
        statuses={status: statuses[status] for status in ("kept", "rejected", "failed", "removed")},
        funnel=funnel(living),
        ended=_ended(living),
        opt_outs=_opt_outs(living, carried.unlisted),
        unlisted=dict(sorted(carried.unlisted.items())),
        names=len(people),
        people=len(index.identities),
        bases=_most_first(person.basis for person in there),
        per_person=histogram([len(places) for places in index.identities.values()], _PEOPLE_EDGES, ""),
        per_size=histogram([b // 1000 for b in kept["num_bytes"].to_pylist()], _KB_EDGES, " kB"),
        licences=_most_first(licence_counts.elements()),
        strictest=most_restrictive(sorted(licence_counts)) if licence_counts else None,
        models=carried.models,
        made_by=made_by,
        shards=index.shards,
        fetched=(days[0], days[-1]) if days else None,
    )


def carry(run: BuildRun, output: Output, made_by: str) -> Carried:
    """What to tell a published copy."""
    lines = [*licences(run.filter), *_caption_licences(run, made_by)]
    for model in (run.filter.vitpose_model, *(c.model for c in run.filter.classifiers)):
        if is_path(model):
            lines = [line.replace(model, Path(model).name) for line in lines]
    return Carried(dict(unlisted(output)), lines)


def is_path(model: str) -> bool:
    """A folder or file of this machine, and no name on the hub: not to be told to others."""
    return model.startswith(("/", "./", "../", "~")) or "\\" in model or Path(model).is_dir()


def read_carried(output: Output) -> Carried | None:
    """None in the folder of a build, which can tell itself."""
    with output.open(LEDGER) as file:
        content = (pq.read_schema(file).metadata or {}).get(CARRIED)
    return None if content is None else Carried(**json.loads(content))


def histogram(values: Sequence[int], edges: Sequence[int], unit: str) -> list[tuple[str, int]]:
    """Counts of values in [edge, next edge), the last without an end; [] of nothing."""
    if not values:
        return []
    ends = [*edges[1:], None]
    names = [f"{low}–{end - 1}{unit}" if end else f"{low}{unit} and more" for low, end in zip(edges, ends, strict=True)]
    counts = [sum(v >= low and (end is None or v < end) for v in values) for low, end in zip(edges, ends, strict=True)]
    return list(zip(names, counts, strict=True))


def _tables(output: Output) -> tuple[pa.Table, list[Identity]]:
    for name in (LEDGER, IDENTITIES):
        if not output.exists(name):
            raise InputError(f"{output.path(name)}: not found: no finished dataset there")
    try:
        return read_ledger(output, _COLUMNS), read_identities(output)
    except pa.ArrowInvalid as error:
        raise InputError(f"{output.url}: {LEDGER} or {IDENTITIES} is damaged: {one_line(error)[:200]}") from None


def _ended(ledger: pa.Table) -> list[Ended]:
    """In the order of the funnel's stages, most first."""
    thresholds: dict[tuple[str, str], set[float]] = {}
    columns = (ledger[name].to_pylist() for name in ("stage", "reason", "threshold"))
    for stage, reason, threshold in zip(*columns, strict=True):
        found = thresholds.setdefault((stage, reason or ""), set())
        found.update([] if threshold is None else [threshold])
    return [
        Ended(step.stage, reason, photos, " … ".join(f"{t:g}" for t in _ends(thresholds[step.stage, reason])))
        for step in funnel(ledger)
        for reason, photos in step.reasons
    ]


def _ends(values: set[float]) -> list[float]:
    return sorted({min(values), max(values)}) if values else []


def _opt_outs(ledger: pa.Table, unlisted: Mapping[str, int]) -> dict[str, int]:
    reasons = Counter(ledger["reason"].to_pylist())
    return {reason: count for reason in OPT_OUTS if (count := reasons[reason] + unlisted.get(reason, 0))}


def _most_first(words: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))


def _made_by(run: BuildRun, output: Output, index: Index) -> str:
    """As a sample says, since a model's folder or a prompt's file may be gone; of no samples as the settings say."""
    if len(index):
        return str(_first_sample(output, index).get("caption_made_by", "unknown"))
    try:
        return BACKENDS[run.caption.backend].made_by(run.caption)
    except InputError:
        return run.caption.backend


def _first_sample(output: Output, index: Index) -> dict[str, Any]:
    try:
        with Dataset(output.url, verify="never") as dataset:
            return dataset.sample(index.keys[0].decode()).metadata
    except ShardError as error:
        raise InputError(str(error)) from None


def _caption_licences(run: BuildRun, made_by: str) -> list[str]:
    try:
        return caption_licences(run.caption)
    except InputError:
        return [f"captions by {made_by}: its terms are not known here, look at its card"]
