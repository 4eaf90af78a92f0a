"""What the local site answers: an address in, a page or a picture out. The report's own views and templates, paged.

Nothing of an address is ever used as a path: people and photos are looked up among those that the dataset has, scripts
and styles among four names. Crops are read from the shards by range, other pictures made when they are asked for.
Knows nothing of HTTP beyond status and content type.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from shards.beside.ledger import LedgerRow
from shards.format.sample import Sample
from shards.format.tar import ShardError
from shards.report.charts import Chart
from shards.report.folder import Folder
from shards.report.originals import Originals
from shards.report.overview import Overview, overview, reasons
from shards.report.page import ASSETS, PLOTLY, asset, chart_data, render
from shards.report.people import least_cosine, person_view
from shards.report.photos import COSINES, Viewer
from shards.report.survey import spread
from shards.report.thumbnails import Picture, thumbnail
from shards.serve.paging import Paging

PEOPLE_A_PAGE, PHOTOS_A_PAGE = 100, 96
NOBODY = "-"
"""In addresses: the identity of files in nobody's folder."""
_SITE_SIDE_PX = 352
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
Query = dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: HTTPStatus
    content_type: str
    body: bytes
    lasting: bool = False
    """Whether a browser may keep it: scripts and styles only."""


class Site:
    """A dataset's pages. One request at a time: files and decoder are shared."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._originals = Originals(folder.output)
        self._one = threading.Lock()
        self._routes: list[tuple[re.Pattern[str], Callable[..., Answer | None]]] = [
            (re.compile(r"/"), self._home),
            (re.compile(r"/people"), self._people),
            (re.compile(r"/people/([^/]+)"), self._person),
            (re.compile(r"/people/([^/]+)/([0-9a-f]{32})/(crop|face|whole)\.jpg"), self._picture),
            (re.compile(r"/assets/([a-z.]+)"), self._asset),
            (re.compile(r"/favicon\.ico"), self._no_icon),
        ]

    def answer(self, target: str) -> Answer:
        """For a request's target: path and query."""
        try:
            parts = urlsplit(target)
            query = {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=20).items()}
        except ValueError:
            return self._missing()
        if parts.scheme or parts.netloc or not target.startswith("/"):
            return self._missing()
        with self._one:
            for pattern, page in self._routes:
                match = pattern.fullmatch(parts.path)
                if match:
                    return page(query, *match.groups()) or self._missing()
        return self._missing()

    @functools.cached_property
    def _whole(self) -> Overview:
        return overview(self._folder, spread(self._folder))

    def _home(self, query: Query) -> Answer:
        charts = [*self._whole.flow, *self._whole.distributions]
        return self._page("site-home.html.j2", charts, whole=self._whole)

    def _people(self, query: Query) -> Answer:
        wanted, outcome = query.get("q", "").casefold(), query.get("outcome", "")
        counts = self._counted(outcome)
        people = [p for p in self._folder.identities.values() if wanted in p.name.casefold() and counts[p.identity]]
        paging = Paging("/people", query, len(people), PEOPLE_A_PAGE)
        asked = f"?{urlencode({'outcome': outcome})}" if outcome else ""
        shown = {"people": paging.cut(people), "counts": counts, "total": len(people), "reasons": reasons(self._folder)}
        return self._page("site-people.html.j2", [], paging=paging, query=query, asked=asked, **shown)

    def _person(self, query: Query, key: str) -> Answer | None:
        person = self._folder.identities.get(_identity(key))
        if person is None:
            return None
        rows = self._folder.rows_of(person.identity)
        finding = self._originals.finding(person.bucket, person.identity)
        threshold = least_cosine(rows, person.kept, self._folder.run, finding)
        chosen = [row for row in rows if self._matches(row, query)]
        paging = Paging(f"/people/{key}", query, len(chosen), PHOTOS_A_PAGE)
        viewer = Viewer(self._folder.dataset, self._originals, _Addressed(key, self._originals))
        views = list(viewer.views(paging.cut(chosen), threshold, {row.key: row for row in rows}))
        names = {identity: p.name for identity, p in self._folder.identities.items()}
        view = person_view(person, names, finding, threshold, views)
        own = sorted({row.reason for row in rows if row.reason})
        return self._page("site-person.html.j2", [view.histogram], view=view, paging=paging, query=query, reasons=own)

    def _picture(self, query: Query, key: str, photo: str, kind: str) -> Answer | None:
        identity = _identity(key)
        if identity not in self._folder.identities:
            return None
        if kind == "crop":
            return self._crop(photo)
        row = next((row for row in self._folder.rows_of(identity) if row.key == photo), None)
        if row is None:
            return None
        picture = self._originals.face(row) if kind == "face" else self._originals.picture(row)
        if isinstance(picture, str):
            return None
        return Answer(HTTPStatus.OK, "image/jpeg", thumbnail(picture, _SITE_SIDE_PX))

    def _crop(self, photo: str) -> Answer | None:
        try:
            return Answer(HTTPStatus.OK, "image/jpeg", self._folder.dataset.sample(photo).image_jpeg)
        except (KeyError, ShardError, OSError):
            return None

    def _asset(self, query: Query, name: str) -> Answer | None:
        if name not in (*ASSETS, PLOTLY):
            return None
        return Answer(HTTPStatus.OK, _TYPES[name.rsplit(".", 1)[1]], asset(name).encode(), lasting=True)

    def _no_icon(self, query: Query) -> Answer:
        """Browsers ask for one whatever a page says."""
        return Answer(HTTPStatus.OK, "image/x-icon", b"", lasting=True)

    def _matches(self, row: LedgerRow, query: Query) -> bool:
        if not _has_outcome(query.get("outcome", ""), row.status, row.reason):
            return False
        least, most = _bound(query.get("least")), _bound(query.get("most"))
        if least is None and most is None:
            return True
        score = self._score(row)
        return score is not None and (least is None or score >= least) and (most is None or score <= most)

    def _score(self, row: LedgerRow) -> float | None:
        if row.status == "kept":
            return self._originals.score(row.bucket, row.key)
        return row.value if row.reason in COSINES else None

    def _counted(self, outcome: str) -> Counter[str]:
        """Photos of this outcome a person; without one everybody is there."""
        counts: Counter[str] = Counter()
        for (identity, status, reason), photos in self._folder.counts("identity", "status", "reason").items():
            if _has_outcome(outcome, str(status), reason):
                counts[identity or ""] += photos
        return counts if outcome else Counter({p: max(1, counts[p]) for p in self._folder.identities})

    def _page(self, template: str, charts: Sequence[Chart | None], **values: object) -> Answer:
        data = chart_data(charts)
        name, link = self._folder.name, person_address
        html = render(template, name=name, charts=data, root="/", person_address=link, **values)
        return Answer(HTTPStatus.OK, "text/html; charset=utf-8", html.encode("utf-8", "replace"))

    def _missing(self) -> Answer:
        return Answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There is no such page.\n")


class _Addressed:
    """Pictures by their addresses on the site: made when a browser asks for them."""

    def __init__(self, person: str, originals: Originals) -> None:
        self._person, self._originals = person, originals

    def crop(self, sample: Sample) -> Picture:
        return self._at(sample.key, "crop")

    def face(self, row: LedgerRow) -> Picture:
        return self._original(row, "face")

    def whole(self, row: LedgerRow) -> Picture:
        return self._original(row, "whole")

    def _original(self, row: LedgerRow, kind: str) -> Picture:
        missing = self._originals.missing(row)
        return Picture(None, missing) if missing else self._at(row.key, kind)

    def _at(self, key: str, kind: str) -> Picture:
        return Picture(f"/people/{quote(self._person, safe='')}/{quote(key, safe='')}/{kind}.jpg")


def person_address(identity: str) -> str:
    return f"/people/{quote(identity, safe='') or NOBODY}"


def _identity(key: str) -> str:
    return "" if key == NOBODY else unquote(key)


def _has_outcome(outcome: str, status: str, reason: str | None) -> bool:
    if outcome in ("group:kept", "group:not-kept"):
        return (status == "kept") == (outcome == "group:kept")
    return not outcome or f"reason:{reason}" == outcome


def _bound(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
