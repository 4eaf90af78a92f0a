"""The ROC of each embedder on real photos, and how its cosines were chosen: `python -m benchmarks.roc [SHARED]`.

Pairs of photos, photos to the centre of their identity's *other* photos, and centres of disjoint halves.
Prints Markdown. SHARED defaults to `PERSONAE_SHARED`, then to `../shared`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.shared_photos import EMBEDDERS, KnownPhoto, by_identity, default_folder, known_photos
from filter.models import EMBEDDERS as TABLE
from filter.names import least_cosine_of_centres

Floats = npt.NDArray[np.float64]
LEAST_PHOTOS = 6
"""Identities with fewer photos have no centre worth measuring; they are strangers to the others all the same."""
FALSE_RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)
FALSE_END, MISS_END = 0.001, 0.01
"""The ends between which the threshold is the middle."""
SPLITS = 200


def main() -> None:
    """Print the tables of both embedders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", nargs="?", type=Path, default=default_folder())
    shared = parser.parse_args().shared
    for embedder in EMBEDDERS:
        photos = known_photos(shared, embedder)
        print(f"\n### `{embedder}`\n")
        for line in report(photos, embedder):
            print(line, flush=True)


def report(photos: list[KnownPhoto], embedder: str) -> Iterator[str]:
    """Markdown lines."""
    entry = TABLE[embedder]
    same, other = pairs(photos)
    yield from _roc("pairs of photos", same, other, entry.pair_threshold)
    same, other = to_centres(photos)
    yield ""
    yield from _roc("photo to centre of the others", same, other, entry.threshold)
    yield ""
    yield from _choice(photos, entry.threshold)
    yield ""
    yield from _halves(photos, entry.same_person_cosine)


def pairs(photos: list[KnownPhoto]) -> tuple[Floats, Floats]:
    """Cosines of all pairs of one person, and of two."""
    x = np.array([p.embedding for p in photos], dtype=np.float64)
    names = np.array([p.identity for p in photos])
    upper = np.triu_indices(len(x), 1)
    cosines, same = (x @ x.T)[upper], (names[:, None] == names)[upper]
    return cosines[same], cosines[~same]


def to_centres(photos: list[KnownPhoto]) -> tuple[Floats, Floats]:
    """Cosines of photos to the centre of their identity's other photos, and to other identities' centres."""
    same: list[float] = []
    other: list[Floats] = []
    for name, group in by_identity(photos, LEAST_PHOTOS).items():
        x = np.array([p.embedding for p in group], dtype=np.float64)
        same += [float(row @ _unit(x.sum(axis=0) - row)) for row in x]
        strangers = np.array([p.embedding for p in photos if p.identity != name], dtype=np.float64)
        other.append(strangers @ _unit(x.sum(axis=0)))
    return np.array(same), np.concatenate(other)


def chosen(same: Floats, other: Floats) -> float:
    """Halfway between what one stranger in 1,000 exceeds and what one right photo in 100 falls short of."""
    return float(np.quantile(other, 1 - FALSE_END) + np.quantile(same, MISS_END)) / 2


def _roc(title: str, same: Floats, other: Floats, threshold: float) -> Iterator[str]:
    yield f"{title}: {len(same)} of one person, {len(other)} of two"
    yield ""
    yield "| strangers accepted | cosine | right accepted |"
    yield "|---|---|---|"
    for rate in FALSE_RATES:
        cosine = float(np.quantile(other, 1 - rate))
        yield f"| {100 * rate:.2f} % | {cosine:.4f} | {100 * np.mean(same >= cosine):.2f} % |"
    accepted, right = 100 * np.mean(other >= threshold), 100 * np.mean(same >= threshold)
    yield f"| **{accepted:.2f} %** | **{threshold:.4f}** (in use) | **{right:.2f} %** |"


def _choice(photos: list[KnownPhoto], threshold: float) -> Iterator[str]:
    """Chosen on one half of the identities, measured on the other half, over many splits."""
    names = sorted({p.identity for p in photos})
    rows = []
    for seed in range(SPLITS):
        half = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2])
        found = chosen(*to_centres([p for p in photos if p.identity in half]))
        same, other = to_centres([p for p in photos if p.identity not in half])
        rows.append((found, np.mean(other >= found), np.mean(same < found)))
    found, accepted, missed = np.array(rows).T
    low, middle, high = np.quantile(found, (0.05, 0.5, 0.95))
    yield f"threshold chosen on all identities: {chosen(*to_centres(photos)):.4f}; in use: {threshold}"
    yield ""
    yield (
        f"chosen on half of the identities, measured on the other half, {SPLITS} splits: "
        f"{middle:.4f} (90 % of splits {low:.4f}–{high:.4f}); strangers accepted {100 * accepted.mean():.3f} % "
        f"(worst split {100 * accepted.max():.2f} %), right photos missed {100 * missed.mean():.2f} % "
        f"(worst split {100 * missed.max():.2f} %)"
    )


def _halves(photos: list[KnownPhoto], limit: float) -> Iterator[str]:
    """Centres of disjoint parts of one identity, against centres of two."""
    yield "| photos in each centre | one person: least, 1 %, median | least asked |"
    yield "|---|---|---|"
    rng = np.random.default_rng(0)
    for size in (2, 3, 5):
        cosines = []
        for group in by_identity(photos, 2 * size).values():
            x = np.array([p.embedding for p in group], dtype=np.float64)
            for order in (rng.permutation(len(x)) for _ in range(100)):
                one, two = x[order[:size]].sum(axis=0), x[order[size : 2 * size]].sum(axis=0)
                cosines.append(float(_unit(one) @ _unit(two)))
        least, low, middle = np.quantile(cosines, (0, 0.01, 0.5))
        yield f"| {size} | {least:.4f}, {low:.4f}, {middle:.4f} | {least_cosine_of_centres(limit, size, size):.4f} |"
    centres = np.array(
        [_unit(np.array([p.embedding for p in g], dtype=np.float64).sum(axis=0)) for g in by_identity(photos).values()]
    )
    between = (centres @ centres.T)[np.triu_indices(len(centres), 1)]
    yield ""
    yield (
        f"centres of two people, {len(between)} pairs: median {np.median(between):.4f}, greatest {between.max():.4f}, "
        f"standard deviation {between.std():.4f}; asked of centres of many photos: {limit}"
    )


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))


if __name__ == "__main__":
    main()
