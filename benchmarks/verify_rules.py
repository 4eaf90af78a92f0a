"""Every verification rule against planted impostors: `python -m benchmarks.verify_rules [SHARED]`.

Each identity of the shared photos with six or more photos is named in turn, and photos of others are
planted under its name. Prints Markdown. SHARED defaults to `PERSONAE_SHARED`, then to `../shared`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.shared_photos import EMBEDDERS, KnownPhoto, by_identity, default_folder, known_photos
from filter.config import Rule, VerifyConfig
from filter.models import EMBEDDERS as TABLE
from filter.verify import Calibrated, Candidates, verify_identity

LEAST_PHOTOS = 6
RULES: tuple[Rule, ...] = ("cluster", "linkage", "hdbscan", "photomaker-8delta", "largest-face")
SCENARIOS = (
    ("none", 0.0),
    ("scattered", 0.1),
    ("scattered", 0.2),
    ("scattered", 0.4),
    ("coherent", 0.1),
    ("coherent", 0.2),
    ("coherent", 0.3),
)
"""(impostors, their share of the name's photos)"""

COUPLE = "a couple, 6 photos, both in each"
NOBODY = (
    ("2 strangers", 2, 1),
    ("3 strangers", 3, 1),
    ("5 strangers", 5, 1),
    ("10 strangers", 10, 1),
    ("2 people, 2 photos each", 2, 2),
    ("2 people, 6 photos each", 2, 6),
    ("3 people, 4 photos each", 3, 4),
    (COUPLE, 2, 6),
)
"""(title, people, photos of each): what a rule must not guess at."""


@dataclass
class Counts:
    """Over many planted identities."""

    right: int = 0
    kept: int = 0
    kept_right: int = 0
    identities: int = 0
    no_majority: int = 0
    impure: int = 0
    """Identities with a wrong photo kept."""

    @property
    def purity(self) -> float:
        return self.kept_right / self.kept if self.kept else float("nan")

    @property
    def recall(self) -> float:
        return self.kept_right / self.right


@dataclass(frozen=True)
class Planted:
    """Photos under one name, and the right face of those that show the person."""

    photos: list[Candidates] = field(default_factory=list)
    right: dict[str, int] = field(default_factory=dict)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", nargs="?", type=Path, default=default_folder())
    parser.add_argument("--seeds", type=int, default=10, help="plantings of each identity and scenario")
    parser.add_argument("--photos", type=int, default=None, help="use at most so many right photos of an identity")
    arguments = parser.parse_args()
    for embedder in EMBEDDERS:
        groups = by_identity(known_photos(arguments.shared, embedder))
        print(f"\n### `{embedder}`\n")
        for line in table(groups, TABLE[embedder], arguments.seeds, arguments.photos):
            print(line, flush=True)
        print()
        for line in refusals(groups, TABLE[embedder], 20 * arguments.seeds):
            print(line, flush=True)


def table(
    groups: dict[str, list[KnownPhoto]], embedder: Calibrated, seeds: int, photos: int | None = None
) -> Iterator[str]:
    """Markdown lines: per scenario and rule the purity and recall in per cent, and identities refused."""
    yield "| planted | " + " | ".join(RULES) + " |"
    yield "|---|" + "---|" * len(RULES)
    for kind, share in SCENARIOS:
        counts = [measure(groups, embedder, rule, kind, share, seeds, photos) for rule in RULES]
        cells = (f"{100 * c.purity:.2f} / {100 * c.recall:.2f} / {c.no_majority}" for c in counts)
        yield f"| {kind} {100 * share:.0f} % | " + " | ".join(cells) + " |"


def measure(
    groups: dict[str, list[KnownPhoto]],
    embedder: Calibrated,
    rule: Rule,
    kind: str,
    share: float,
    seeds: int,
    photos: int | None = None,
    targets: list[str] | None = None,
) -> Counts:
    """What a rule keeps when each target is named in turn, with every seed's impostors."""
    config, counts = VerifyConfig(rule=rule), Counts()
    for name in targets or [n for n, g in groups.items() if len(g) >= LEAST_PHOTOS]:
        for seed in range(seeds):
            planted = plant(groups, name, kind, share, np.random.default_rng(seed), photos)
            count(counts, planted, embedder, config)
    return counts


def plant(
    groups: dict[str, list[KnownPhoto]],
    name: str,
    kind: str,
    share: float,
    rng: np.random.Generator,
    photos: int | None = None,
) -> Planted:
    """The person's photos and so many impostors that these are `share` of all."""
    order = rng.permutation(len(groups[name]))
    own = [groups[name][i] for i in order[:photos]]
    number = round(len(own) * share / (1 - share))
    if kind == "coherent" and share > 0:
        number = max(number, 1)
    wrong = (coherent if kind == "coherent" else scattered)(groups, name, number, rng)
    planted = Planted([], {p.key: p.right for p in own})
    planted.photos.extend(Candidates(p.key, p.embeddings, p.sides_px, p.scores) for p in [*own, *wrong])
    return planted


def scattered(
    groups: dict[str, list[KnownPhoto]], name: str, number: int, rng: np.random.Generator
) -> list[KnownPhoto]:
    """Photos of as many other people as there are, one each, then a second one each."""
    others = [groups[n] for n in rng.permutation(sorted(set(groups) - {name}))]
    shuffled = [[group[i] for i in rng.permutation(len(group))] for group in others]
    rounds = (group[turn] for turn in range(max(map(len, shuffled))) for group in shuffled if turn < len(group))
    return [photo for photo, _ in zip(rounds, range(number), strict=False)]


def coherent(groups: dict[str, list[KnownPhoto]], name: str, number: int, rng: np.random.Generator) -> list[KnownPhoto]:
    """Photos of one other person."""
    able = [n for n in sorted(groups) if n != name and len(groups[n]) >= number]
    group = groups[able[rng.integers(len(able))]]
    return [group[i] for i in rng.permutation(len(group))[:number]]


def refusals(groups: dict[str, list[KnownPhoto]], embedder: Calibrated, trials: int) -> Iterator[str]:
    """Markdown lines: names under which the photos speak for nobody, and how many of them the default rule refuses."""
    yield "| nobody to be kept | names | refused | of the rest, photos kept of two people |"
    yield "|---|---|---|---|"
    names = sorted(n for n, g in groups.items() if len(g) >= LEAST_PHOTOS)
    for title, people, photos in NOBODY:
        refused = mixed = 0
        for seed in range(trials):
            rng = np.random.default_rng(seed)
            chosen = rng.permutation(names if photos > 1 else sorted(groups))[:people]
            picked = [[groups[n][i] for i in rng.permutation(len(groups[n]))[:photos]] for n in chosen]
            verdict = verify_identity("name", together(picked, title), embedder, VerifyConfig())
            refused += verdict.finding.refused is not None
            owners = {p.key: p.identity for group in picked for p in group}
            mixed += len({owners.get(p.key) for p in verdict.photos if p.face_index is not None}) > 1
        yield f"| {title} | {trials} | {refused} | {mixed} |"


def together(people: list[list[KnownPhoto]], title: str) -> list[Candidates]:
    """Each photo for itself; of a couple both faces in every photo."""
    if title != COUPLE:
        return [Candidates(p.key, p.embeddings, p.sides_px, p.scores) for group in people for p in group]
    return [
        Candidates(str(i), np.stack([a.embedding, b.embedding]), (100.0, 100.0), (1.0, 1.0))
        for i, (a, b) in enumerate(zip(*people, strict=True))
    ]


def count(counts: Counts, planted: Planted, embedder: Calibrated, config: VerifyConfig) -> None:
    """Verify, and add up what was kept."""
    verdict = verify_identity("name", planted.photos, embedder, config)
    kept = [p for p in verdict.photos if p.face_index is not None]
    kept_right = sum(planted.right.get(p.key) == p.face_index for p in kept)
    counts.right += len(planted.right)
    counts.kept += len(kept)
    counts.kept_right += kept_right
    counts.identities += 1
    counts.no_majority += verdict.finding.no_majority
    counts.impure += kept_right < len(kept)


if __name__ == "__main__":
    main()
