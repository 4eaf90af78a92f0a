"""What a page says of one photo: its outcome, its score against the threshold, its picture, where it came from.

Strings are as the sources gave them: escaping them is the template's part. Knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from crawl.errors import one_line
from filter.keypoints import BONES, NAMES, VISIBLE
from shards.beside.ledger import LedgerRow
from shards.format.sample import Sample
from shards.format.tar import ShardError
from shards.read import Dataset
from shards.report.originals import Originals, unseen
from shards.report.reasons import meaning, measured, number
from shards.report.thumbnails import Picture

GROUPS = ("kept", "rejected", "duplicate", "failed", "removed")
"""In the order of the page."""
_LONGEST_URL = 2000
_GREATEST = 1e12
"""Of what is a measure: a number beyond it, or none, would only spoil a chart."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a photo's details."""

    label: str
    text: str
    href: str | None = None
    """Of http and https only."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is drawn on a crop, in its own pixels."""

    size_px: int
    face: tuple[float, float, float, float]
    """left, top, width, height."""
    bones: tuple[tuple[float, float, float, float, str], ...]
    """x, y of both ends; classes."""
    points: tuple[tuple[float, float, str, str], ...]
    """x, y, classes, what it is."""


@dataclass(frozen=True, slots=True)
class PhotoView:
    """One photo."""

    key: str
    group: str
    """One of `GROUPS`."""
    stage: str
    reason: str
    """"" when kept."""
    meaning: str
    measured: str
    score: float | None
    """Cosine to the person's centre."""
    threshold: float | None
    """Least cosine asked for, where it is on record."""
    picture: Picture
    kept_instead: Picture | None
    """Of a duplicate: the photo that stands for it."""
    overlay: Overlay | None
    facts: tuple[Fact, ...]
    caption: tuple[tuple[str, str], ...]
    """(part, text)."""


class Pictures(Protocol):
    """Makes or addresses the pictures of a page."""

    def crop(self, sample: Sample) -> Picture: ...

    def face(self, row: LedgerRow) -> Picture: ...

    def whole(self, row: LedgerRow) -> Picture: ...


class Viewer:
    """Turns rows of the ledger into views."""

    def __init__(
        self,
        dataset: Dataset,
        originals: Originals,
        pictures: Pictures,
        heed: Callable[[Sample], None] = lambda _: None,
    ) -> None:
        """`heed` is shown every sample that is read."""
        self._dataset, self._originals, self._pictures, self._heed = dataset, originals, pictures, heed

    def views(
        self, rows: Iterable[LedgerRow], threshold: float | None, others: dict[str, LedgerRow]
    ) -> Iterator[PhotoView]:
        """`threshold` holds for kept photos; `others` are the identity's rows by key, for duplicates."""
        for row in rows:
            if row.status == "kept":
                yield self._kept(row, threshold)
            elif row.duplicate_of is not None:
                yield self._duplicate(row, others.get(row.duplicate_of))
            else:
                yield self._ended(row)

    def _kept(self, row: LedgerRow, threshold: float | None) -> PhotoView:
        try:
            sample = self._dataset.sample(row.key)
        except KeyError:
            return _view(row, "kept", Picture(None, "the index has no such sample"))
        except (ShardError, OSError) as error:
            return _view(row, "kept", Picture(None, f"cannot be read: {one_line(error)}"))
        self._heed(sample)
        about = sample.metadata
        return _view(
            row,
            "kept",
            self._pictures.crop(sample),
            score=_number(about.get("identity_score")),
            threshold=threshold,
            overlay=overlay(about),
            facts=(*_described(about), *_provenance(row)),
            caption=tuple((part, str(about.get(part) or "")) for part in ("general", "background", "body")),
        )

    def _duplicate(self, row: LedgerRow, original: LedgerRow | None) -> PhotoView:
        instead = Picture(None, "not in this ledger") if original is None else self._pictures.whole(original)
        facts = (Fact("Kept instead", str(row.duplicate_of)), *_provenance(row))
        return _view(row, "duplicate", self._pictures.whole(row), kept_instead=instead, facts=facts)

    def _ended(self, row: LedgerRow) -> PhotoView:
        group = row.status if row.status in GROUPS else "rejected"
        why_not = unseen(row)
        if why_not:
            return _view(row, group, Picture(None, why_not), facts=_provenance(row))
        seen = self._originals.seen(row.bucket, row.key)
        facts = _provenance(row)
        if seen is not None and len(seen.cosines) > 1:
            cosines = ", ".join(f"{cosine:.3f}" for cosine in seen.cosines)
            facts = (Fact("Cosines of its faces", cosines), *facts)
        score = _number(row.value) if row.reason in COSINES else None
        return _view(row, group, self._pictures.face(row), score=score, threshold=row.threshold, facts=facts)


COSINES = frozenset({"not_this_person", "second_person"})
"""Reasons whose value is a cosine to the person's centre."""


def link(url: str | None) -> str | None:
    """The address when a browser may be led there: http or https, with a host, without control characters."""
    if not url or len(url) > _LONGEST_URL or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        return None
    try:
        parts = urlsplit(url)
        return url if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def overlay(about: dict[str, Any]) -> Overlay | None:
    """Face box and keypoints of a sample; None for metadata that holds no face."""
    try:
        left, top, right, bottom = (float(v) for v in about["face_xyxy_px"])
        size_px = int(about["size_px"])
        points = [(float(x), float(y)) for x, y in about.get("keypoints") or ()]
        scores = [float(s) for s in about.get("keypoint_scores") or ()]
    except (KeyError, TypeError, ValueError):
        return None
    face = (left, top, right - left, bottom - top)
    if not any(scores) or not len(points) == len(scores) == len(NAMES):
        return Overlay(size_px, face, (), ())
    seen = ["seen" if score >= VISIBLE else "unseen" for score in scores]
    bones = tuple((*points[a], *points[b], f"{_side(a, b)} {min(seen[a], seen[b])}") for a, b in BONES)
    dots = tuple(
        (*points[n], f"{_side(n, n)} {seen[n]}", f"{NAMES[n]} {scores[n]:.2f}") for n in range(len(NAMES)) if scores[n]
    )
    return Overlay(size_px, face, bones, dots)


def _side(one: int, other: int) -> str:
    sides = {NAMES[one].split()[0], NAMES[other].split()[0]}
    return "middle" if len(sides) == 2 else sides.pop()


def _view(row: LedgerRow, group: str, picture: Picture, **more: Any) -> PhotoView:
    reason = row.reason or ""
    said = measured(reason, row.value, row.threshold)
    given = {"score": None, "threshold": None, "kept_instead": None, "overlay": None, "facts": (), "caption": ()} | more
    return PhotoView(row.key, group, row.stage, reason, meaning(reason), said, picture=picture, **given)


def _described(about: dict[str, Any]) -> Iterator[Fact]:
    match about.get("original_size"):
        case [int(height), int(width)]:
            yield Fact("Photo", f"{width} × {height} px")
    for label, name in (
        ("Face score", "face_score"),
        ("Sharpness", "sharpness"),
        ("Faces in the photo", "faces_in_photo"),
    ):
        value = _number(about.get(name))
        if value is not None:
            yield Fact(label, number(value))
    classes = about.get("classes")
    for name, probability in sorted(classes.items()) if isinstance(classes, dict) else ():
        yield Fact(f"Classifier {name}", str(probability))
    if about.get("keypoints_reason"):
        yield Fact("Keypoints", f"none: {about['keypoints_reason']}")
    yield Fact("Rule", str(about.get("identity_rule") or "unknown"))
    yield Fact("Caption by", str(about.get("caption_made_by") or "unknown"))


def _provenance(row: LedgerRow) -> tuple[Fact, ...]:
    facts = [Fact("Key", row.key), Fact("Found at", row.source, link(row.source))]
    if row.page_url:
        facts.append(Fact("Page", row.page_url, link(row.page_url)))
    if row.image_url and row.image_url != row.source:
        facts.append(Fact("Image", row.image_url, link(row.image_url)))
    facts.append(Fact("Licence", row.licence or "unknown", link(row.licence)))
    for label, text in (
        ("Author", row.author),
        ("Credit", row.attribution),
        ("Fetched", row.fetched_at),
        ("Detail", row.detail),
        ("SHA-256", row.sha256),
    ):
        if text:
            facts.append(Fact(label, text))
    return tuple(facts)


def _number(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _GREATEST
    return float(value) if number else None  # type: ignore[arg-type]
