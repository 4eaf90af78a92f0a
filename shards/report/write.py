"""`python -m shards report DATASET`: everything of a dataset in one HTML file that needs no network.

Thumbnails are made until the file has its size; people behind that are listed only, and the page says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from crawl.errors import InputError
from crawl.output import Output
from shards.beside.identities import Identity
from shards.beside.ledger import LedgerRow
from shards.format.sample import Sample
from shards.report.folder import Folder
from shards.report.originals import Originals
from shards.report.overview import overview
from shards.report.page import chart_data, offline_policy, plotly_packed, render
from shards.report.people import PersonView, least_cosine, person_view
from shards.report.photos import Viewer
from shards.report.survey import Survey, spread
from shards.report.thumbnails import Picture, inlined

REPORT = "report.html"
MAX_PICTURE_BYTES = 22_000_000
"""Of thumbnails in one file, as it is written."""
MAX_PHOTOS = 4_000
"""In one file, with a picture or without."""
MOST_OF_ONE_PERSON = 400


def write_report(url: str, target: str | None = None) -> tuple[str, int]:
    """Write the page to `target`, a local file, or into the dataset folder; returns where, and how many bytes.

    Raises InputError for a folder that holds no finished dataset.
    """
    folder = Folder(url)
    content = report_html(folder).encode("utf-8", "replace")
    if target is None:
        folder.output.write(REPORT, content)
        return f"{url.rstrip('/')}/{REPORT}", len(content)
    path = os.path.abspath(target)
    if os.path.isdir(path):
        raise InputError(f"--output: {target}: is a folder, not a file")
    Output(os.path.dirname(path)).write(os.path.basename(path), content)
    return target, len(content)


def report_html(folder: Folder) -> str:
    """The page, as text."""
    survey, pictures = Survey(), Inlined(Originals(folder.output))
    people, left_out = _people(folder, pictures, survey)
    if left_out or any(person.more for person in people):
        survey = spread(folder)
    whole = overview(folder, survey)
    charts = [*whole.flow, *whole.distributions, *(p.histogram for p in people)]
    return render(
        "report.html.j2",
        policy=offline_policy(),
        plotly=plotly_packed(),
        name=folder.name,
        url=folder.output.url,
        person_address=lambda identity: f"#person-{identity}",
        whole=whole,
        people=people,
        left_out=left_out,
        identities=list(folder.identities.values()),
        sections={p.identity.identity for p in people},
        charts=chart_data(charts),
    )


class Inlined:
    """Pictures inside the page, until it has enough of them."""

    def __init__(self, originals: Originals) -> None:
        self.originals = originals
        self._left = MAX_PICTURE_BYTES

    @property
    def full(self) -> bool:
        return self._left <= 0

    def crop(self, sample: Sample) -> Picture:
        return self._counted(inlined(sample.image_jpeg))

    def face(self, row: LedgerRow) -> Picture:
        return self._counted(inlined(self.originals.face(row)))

    def whole(self, row: LedgerRow) -> Picture:
        return self._counted(inlined(self.originals.picture(row)))

    def _counted(self, picture: Picture) -> Picture:
        self._left -= len(picture.url or "")
        return picture


def _people(folder: Folder, pictures: Inlined, survey: Survey) -> tuple[list[PersonView], list[Identity]]:
    """Sections while there is room, and who has none. `survey` sees every sample that is shown."""
    viewer = Viewer(folder.dataset, pictures.originals, pictures, lambda sample: survey.add(sample.metadata))
    names = {key: person.name for key, person in folder.identities.items()}
    sections: dict[str, PersonView] = {}
    for person in sorted(_first(folder.identities.values()), key=lambda p: p.bucket):  # its tables are read once
        if not pictures.full:
            rows = folder.rows_of(person.identity)
            sections[person.identity] = _section(folder, viewer, pictures.originals, person, rows, names)
    shown = [sections[key] for key in folder.identities if key in sections]
    return shown, [person for key, person in folder.identities.items() if key not in sections]


def _first(people: Iterable[Identity]) -> Iterator[Identity]:
    """Those whose photos one file may hold."""
    photos = 0
    for person in people:
        if photos >= MAX_PHOTOS:
            return
        photos += min(person.photos, MOST_OF_ONE_PERSON)
        yield person


def _section(
    folder: Folder,
    viewer: Viewer,
    originals: Originals,
    person: Identity,
    rows: Sequence[LedgerRow],
    names: dict[str, str],
) -> PersonView:
    finding = originals.finding(person.bucket, person.identity)
    threshold = least_cosine(rows, person.kept, folder.run, finding)
    views = list(viewer.views(rows[:MOST_OF_ONE_PERSON], threshold, {row.key: row for row in rows}))
    return person_view(person, names, finding, threshold, views, max(0, len(rows) - MOST_OF_ONE_PERSON))
