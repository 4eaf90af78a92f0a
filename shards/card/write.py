"""The dataset card: `README.md` with Hugging Face metadata, and `croissant.json` beside it.

Every number is `shards.card.facts`'; here is how they are put for people. Names no person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import yaml

from crawl.output import Output
from filter.keypoints import NAMES
from shards.beside.ledger import FILE as LEDGER
from shards.beside.resolved import read_resolved
from shards.card.croissant import CROISSANT, croissant_text
from shards.card.facts import Facts, gather
from shards.card.licence_links import hub_licence, link, meaning
from shards.card.statements import BIASES, LIMITS, OBEYED, chosen, found, removal
from shards.config import BuildRun

CARD = "README.md"
_RECOGNISED = {
    "opted_out": "the answer, the page or tdmrep.json said no",
    "robots_disallowed": "robots.txt said no",
    "robots_unreachable": "robots.txt could not be had, which counts as no",
}


def write_card(run: BuildRun | None, output: Output) -> bool:
    """Write `README.md` and `croissant.json` where they differ from what ledger, index and settings say.

    Without `run` the settings are those in the folder. Returns whether anything was written.
    """
    texts = card_files(run, output)
    stale = [name for name, text in texts.items() if not output.exists(name) or output.read(name) != text.encode()]
    for name in stale:
        output.write(name, texts[name].encode())
    return bool(stale)


def card_files(run: BuildRun | None, output: Output) -> dict[str, str]:
    """File → what it must hold. Raises InputError for a folder that holds no finished dataset."""
    facts = gather(run or read_resolved(output), output)
    with output.open(LEDGER) as file:
        ledger_sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return {CARD: card_text(facts), CROISSANT: croissant_text(facts, ledger_sha256)}


def card_text(facts: Facts) -> str:
    """The card as Markdown."""
    sections = [
        f"# {facts.run.publish.title}",
        _what(facts),
        "## Use",
        _use(facts),
        "## People",
        *_people(facts),
        "## What happened to every photo",
        *_funnel(facts),
        "## How photos were chosen",
        _list(chosen(facts)),
        "## Sizes",
        *_sizes(facts),
        "## Licences of the photos",
        *_licences(facts),
        "## Models that measured the photos",
        *_models(facts),
        "## Opt-outs",
        *_opt_outs(facts),
        "## Biases and limits",
        _list([*BIASES, *LIMITS]),
        "## Removal",
        removal(facts),
    ]
    metadata = yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{metadata}---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _metadata(facts: Facts) -> dict[str, object]:
    known = {hub_licence(licence) for licence, _ in facts.licences}
    only = known.pop() if len(known) == 1 else None
    return {
        "pretty_name": facts.run.publish.title,
        "license": only or "other",
        **({} if only else {"license_name": "per-photo"}),
        "language": ["en"],
        "annotations_creators": ["machine-generated"],
        "task_categories": ["text-to-image"],
        "tags": ["identity", "faces", "webdataset", "personae"],
        "size_categories": [_size_category(facts.kept)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "shards/*.tar"}]}],
    }


def _size_category(samples: int) -> str:
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
    return next((name for power, name in enumerate(names, 3) if samples < 10**power), "10M<n<100M")


def _what(facts: Facts) -> str:
    settings = facts.run.filter
    pose = "" if settings.pose == "none" else f"{len(NAMES)} body keypoints where a body was found, "
    return (
        f"{facts.kept} verified photos of {facts.people} people in "
        f"{len(facts.shards)} WebDataset shards ({facts.num_bytes / 1e6:.1f} MB); version {facts.version}, built with "
        f"Personae. Each sample: a {settings.size_px}×{settings.size_px} crop, a reference face crop of "
        f"{settings.face_size_px}×{settings.face_size_px}, {pose}a caption in three parts, and where it came from. "
        "People are opaque keys."
    )


def _use(facts: Facts) -> str:
    place = facts.run.publish.repo or "FOLDER"
    return (
        f'```python\nfrom datasets import load_dataset\n\nsamples = load_dataset("{place}", split="train")\n```\n\n'
        "Or with `webdataset`, Ray Data, tar, or Personae's own reader, which checks every shard against "
        "`shards/index.json`. All photos of a person are adjacent."
    )


def _people(facts: Facts) -> list[str]:
    publish = facts.run.publish
    return [
        f"{found(facts)} On what ground:",
        _list(f"{basis}: {count} people" for basis, count in facts.bases),
        _table(("photos a person", "people"), facts.per_person),
        f"Their names are published with this copy: {publish.names_reason}" if publish.names else "",
    ]


def _funnel(facts: Facts) -> list[str]:
    steps = [(s.stage, s.entered, s.left, ", ".join(f"{n} {why}" for why, n in s.reasons)) for s in facts.funnel]
    counts = ", ".join(f"{count} {status}" for status, count in facts.statuses.items())
    ended = [(e.stage, e.reason, e.photos, e.threshold) for e in facts.ended]
    return [
        f"{sum(facts.statuses.values())} photos found: {counts}.",
        _table(("stage", "photos in", "left", "ended here"), steps),
        _table(("stage", "reason", "photos", "threshold"), ended),
    ]


def _sizes(facts: Facts) -> list[str]:
    fetched = "" if facts.fetched is None else f" Fetched from {facts.fetched[0]} to {facts.fetched[1]}."
    return [
        f"{facts.kept} samples, {len(facts.shards)} tars, {facts.num_bytes} bytes.{fetched}",
        _table(("size of the original file", "photos"), facts.per_size),
    ]


def _licences(facts: Facts) -> list[str]:
    if facts.strictest is None:
        return ["No photos."]
    rows = [(_linked(licence), meaning(licence), photos) for licence, photos in facts.licences]
    return [
        f"Every sample says its own licence, author and URL; this is the roll-up. The most restrictive is "
        f"**{_linked(facts.strictest)}** ({meaning(facts.strictest)}): who uses all photos together is bound by it.",
        _table(("licence", "asks for", "photos"), rows),
    ]


def _linked(licence: str) -> str:
    address = link(licence)
    text = _plain(licence)
    return text if address is None or address == licence else f"[{text}]({address})"


def _models(facts: Facts) -> list[str]:
    measured = facts.run.caption.backend == "measured"
    captions = (
        f"captions: `{_plain(facts.made_by)}`, derived from measurements of the photo, not written by a language model"
        if measured
        else f"captions: `{_plain(facts.made_by)}`, written by a vision-language model and checked for form, names and "
        "length, not for truth"
    )
    warning = "**Weights for non-commercial use only took part**: take the dataset for research, not for trade."
    return [warning if facts.non_commercial else "", _list([*facts.models, captions])]


def _opt_outs(facts: Facts) -> list[str]:
    others = {reason: count for reason, count in facts.unlisted.items() if reason not in facts.opt_outs}
    seen = ", ".join(f"{count} {reason}" for reason, count in others.items())
    return [
        f"{OBEYED} Left alone for it:",
        _list(f"{count} {reason}: {_RECOGNISED[reason]}" for reason, count in facts.opt_outs.items()) or "* nothing",
        f"Seen by the sources and not listed for other reasons: {seen}." if seen else "",
    ]


def _plain(text: str) -> str:
    """On one line, and no Markdown of its own."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    right = [all(isinstance(row[i], int) for row in rows) for i in range(len(header))]
    lines = [header, ["---:" if r else "---" for r in right], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)
