"""One identity as a page shows it: what was found of the name, its photos by outcome, its histogram.

Knows nothing of HTML, and of other identities only what they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from filter.models import EMBEDDERS
from filter.rules.group import Limits
from filter.verify import IdentityFinding
from shards.beside.identities import Identity
from shards.beside.ledger import LedgerRow
from shards.config import BuildRun
from shards.report.charts import Chart, similarity
from shards.report.photos import GROUPS, PhotoView

TITLES = {
    "kept": "Kept",
    "rejected": "Rejected",
    "duplicate": "Duplicates, beside what was kept",
    "failed": "Could not be had",
    "removed": "Taken down",
}


@dataclass(frozen=True, slots=True)
class PersonView:
    """A section of the page."""

    identity: Identity
    threshold: float | None
    findings: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    """(rule, photos that it would have kept)."""
    groups: tuple[tuple[str, str, tuple[PhotoView, ...]], ...]
    """(group, title, photos), those with any."""
    more: int
    """Photos that are not shown here."""
    histogram: Chart | None


def person_view(
    identity: Identity,
    names: dict[str, str],
    finding: IdentityFinding | None,
    threshold: float | None,
    views: Sequence[PhotoView],
    more: int = 0,
) -> PersonView:
    """`views` in any order; `names` by identity key."""
    groups = []
    for group in GROUPS:
        photos = tuple(sorted((v for v in views if v.group == group), key=_worst_first))
        if photos:
            groups.append((group, TITLES[group], photos))
    scores = {group: [v.score for v in views if v.group == group and v.score is not None] for group in GROUPS}
    histogram = similarity(identity.identity, scores["kept"], scores["rejected"], threshold)
    rules = finding.by_rule if finding else ()
    said = tuple((r.rule, "not asked" if r.kept is None else str(r.kept)) for r in rules)
    return PersonView(identity, threshold, tuple(findings(identity, names)), said, tuple(groups), more, histogram)


def findings(identity: Identity, names: dict[str, str]) -> Iterable[str]:
    """What a person should look at."""
    if identity.second_person_photos:
        many = identity.second_person_photos != 1
        yield f"{identity.second_person_photos} photo{'s show' if many else ' shows'} one other person."
    if identity.no_majority:
        yield "No person is in enough of the photos to be the named one: none is kept."
    if identity.same_as is not None:
        aside = "" if identity.kept else " Set aside, since that name has more photos."
        cosine = "" if identity.same_as_cosine is None else f" (cosine of the centres {identity.same_as_cosine:.2f})"
        yield f"Shows the same person as {names.get(identity.same_as, identity.same_as)}{cosine}.{aside}"


def least_cosine(
    rows: Iterable[LedgerRow], kept: int, run: BuildRun | None, found: IdentityFinding | None
) -> float | None:
    """What the cosines of kept photos were compared with; None when nothing was, or nobody knows.

    From the settings, as the rule has it. Of rejected photos the ledger says it one by one: of these it may be more,
    since a face that is nearer to a second person is not kept.
    """
    if not kept:
        return None
    if run is None:
        asked = [r.threshold for r in rows if r.reason == "not_this_person" and r.threshold is not None]
        return min(asked, default=found.threshold if found else None)
    verify, embedder = run.filter.verify, EMBEDDERS[run.filter.embedder_name]
    if verify.rule == "photomaker-8delta":
        return None
    if verify.threshold is not None:
        return verify.threshold
    if verify.rule != "cluster":
        return embedder.threshold
    others = np.array(max(kept - 1, 1))
    return round(float(Limits(embedder.threshold, embedder.pair_threshold).least_cosine(others)), 6)


def _worst_first(view: PhotoView) -> tuple[float, str]:
    """Kept photos nearest to the threshold first: the ones worth a look. Of rejected ones the nearest misses first."""
    if view.score is None:
        return 2.0, view.key
    return view.score if view.group == "kept" else -view.score, view.key
