"""The dataset card: `README.md` with Hugging Face metadata, every number taken from the ledger.

Knows nothing of how the dataset was made beyond what ledger, index and run file say.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import yaml

from caption.captioner import BACKENDS
from caption.models import licences as caption_licences
from crawl.output import Output
from filter.config import FilterConfig
from filter.keypoints import NAMES
from filter.models import EMBEDDERS, licences
from shards.config import BuildRun
from shards.identities import UNKNOWN_LICENCE, read_identities
from shards.index import read_index
from shards.ledger import FunnelStep, funnel, read_ledger

CARD = "README.md"
_MEASURED = "captions: `measured`, derived from measurements of the photo, not written by a language model"


def write_card(run: BuildRun, output: Output) -> None:
    """Write `README.md` from the finished ledger, index and identities."""
    output.write(CARD, card_text(run, output).encode())


def card_text(run: BuildRun, output: Output) -> str:
    """The card as Markdown. Names no person: identities are counted, not listed."""
    ledger = read_ledger(output, ["status", "stage", "reason", "licence"])
    kept = ledger["status"].to_pylist().count("kept")
    rows = zip(ledger["status"].to_pylist(), ledger["licence"].to_pylist(), strict=True)
    licence_counts = Counter(licence or UNKNOWN_LICENCE for status, licence in rows if status == "kept")
    identities = [i for i in read_identities(output) if i.kept]
    index = read_index(output)
    settings = run.filter
    threshold = settings.verify.threshold
    threshold = EMBEDDERS[settings.embedder_name].threshold if threshold is None else threshold
    sections = [
        "# Identity photo dataset",
        f"{kept} verified photos of {len(identities)} people in {len(index.shards)} WebDataset shards, "
        f"built with Personae. Each sample: a {settings.size_px}×"
        f"{settings.size_px} crop, a reference face crop, {_keypoints(settings)}a caption in three parts, and where it "
        "came from.",
        "## What happened to every photo",
        _funnel_table(funnel(ledger)),
        "## How photos were chosen",
        f"Short side ≥ {settings.min_side_px} px, face box ≥ {settings.min_face_px} px; near-duplicates within a "
        f"person removed; identity by rule `{settings.verify.rule}` (cosine to the person's centre ≥ {threshold:.2f}).",
        "## People",
        _list(f"{basis}: {count} people" for basis, count in Counter(i.basis for i in identities).most_common()),
        _histogram([i.kept for i in identities]),
        "## Licences of the photos",
        _list(f"{licence}: {count} photos" for licence, count in licence_counts.most_common()),
        "## Models that measured the photos",
        _list([*licences(settings), *_captions(run)]),
        "## Limits and biases",
        "Detectors and embedders err more often on people and conditions that their training photos hold few of; "
        "who is in the dataset is who was asked for. A copyright licence is not the consent of the person shown.",
        "## Removal",
        "A person shown here, or the owner of a photo, can ask the publisher of this copy for its removal; "
        "identities are opaque keys, photos can be named by URL or sha256.",
    ]
    return (
        f"---\n{yaml.safe_dump(_metadata(kept), sort_keys=False)}---\n\n" + "\n\n".join(s for s in sections if s) + "\n"
    )


def _captions(run: BuildRun) -> list[str]:
    if run.caption.backend == "measured":
        return [_MEASURED]
    made_by = BACKENDS[run.caption.backend].made_by(run.caption)
    checked = "written by a vision-language model and checked for form, names and length, not for truth"
    return [f"captions: `{made_by}`, {checked}", *caption_licences(run.caption)]


def _keypoints(settings: FilterConfig) -> str:
    return "" if settings.pose == "none" else f"{len(NAMES)} body keypoints where a body was found, "


def _metadata(kept: int) -> dict[str, object]:
    return {
        "license": "other",
        "license_name": "per-photo",
        "task_categories": ["text-to-image"],
        "tags": ["identity", "faces", "webdataset", "personae"],
        "size_categories": [_size_category(kept)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "shards/*.tar"}]}],
    }


def _size_category(samples: int) -> str:
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for limit, name in limits if samples < limit), "1M<n<10M")


def _funnel_table(steps: list[FunnelStep]) -> str:
    lines = ["| stage | photos in | left | ended here |", "|---|---:|---:|---|"]
    for step in steps:
        reasons = ", ".join(f"{count} {reason}" for reason, count in step.reasons)
        lines.append(f"| {step.stage} | {step.entered} | {step.left} | {reasons} |")
    return "\n".join(lines)


def _histogram(kept: list[int]) -> str:
    if not kept:
        return ""
    edges = [1, 5, 10, 30, 100, 10**9]
    counts = [sum(low <= k < high for k in kept) for low, high in itertools.pairwise(edges)]
    names = ["1–4", "5–9", "10–29", "30–99", "100+"]
    header = "| photos a person | people |\n|---|---:|\n"
    return header + "\n".join(f"| {name} | {count} |" for name, count in zip(names, counts, strict=True))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)
