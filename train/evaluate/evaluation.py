"""An evaluation from end to end: sets of people, pictures of each method, rows, scores. Knows no command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from PIL import Image

from crawl.command import Bars, console
from crawl.errors import InputError
from crawl.output import Output
from train.evaluate.distribution import Told, numbers, told
from train.evaluate.levels import rows_of_photos
from train.evaluate.meters import Meters, Seen, by_person_and_prompt, library_versions, photo
from train.evaluate.methods import Method
from train.evaluate.people import PeopleSet, sets_of
from train.evaluate.pictures import Pictures
from train.evaluate.results import Results
from train.evaluate.rows import LEVELS, Row
from train.evaluate.scores import Score, in_order, of_a_set, scored
from train.evaluate.settings import EvaluateSettings
from train.evaluate.shots import Shot, shots_of
from train.evaluate.weights import Features, load_features


def evaluate(
    methods: Sequence[Method], dataset: str, folder: str | None, output: Output, settings: EvaluateSettings
) -> tuple[Results, int]:
    """Everything but writing it down, and how many pictures were made anew. Raises InputError."""
    sets = sets_of(settings, dataset, [method.run.data for method in methods], folder)
    if not any(group.people for group in sets):
        raise InputError(f"--data: nobody to make pictures of: {'; '.join(group.note for group in sets)}")
    meters, network = Meters.load(settings), load_features(settings.inception)
    pictures = Pictures(output, settings)
    of_sets, say = _Sets(pictures, network), console().print
    shots = {method.name: shots_of(sets, settings, plain=method.needs.references) for method in methods}
    made, rows = 0, list[Row]()
    scores = list[Score]()
    with Bars() as bars:
        for method in methods:
            own = shots[method.name]
            bars.expect(method.name, len(own))
            new = pictures.make(method, own, partial(bars.tick, method.name))
            say(f"{method.name}: {len(own)} pictures, {new} made now")
            made += new
        bars.expect("measure", sum(not shot.is_plain for own in shots.values() for shot in own))
        for method in methods:
            for row in _rows(method, shots[method.name], pictures, meters, bars):
                rows.append(row)
            scores += [score for group in sets for score in of_sets.scores(method, group, shots[method.name])]
    for group in sets:
        rows += rows_of_photos(meters, group)
    names = [*(method.name for method in methods), *LEVELS]
    scores = in_order([*scored(rows), *scores], names)
    models = {"detector": settings.detector, **{f"face {k}": v for k, v in meters.faces.versions.items()}}
    models |= {"clip": meters.clip.name, "inception": network.name, "lpips": f"{settings.lpips} (torchmetrics)"}
    return Results(methods, sets, rows, scores, settings, models, library_versions()), made


def _rows(method: Method, shots: Sequence[Shot], pictures: Pictures, meters: Meters, bars: Bars) -> Iterator[Row]:
    plain = {(shot.prompt.name, shot.seed): shot for shot in shots if shot.is_plain}
    for group in by_person_and_prompt(shots):
        seen = []
        for shot in group:
            beside = plain.get((shot.prompt.name, shot.seed))
            seen.append(
                Seen(
                    shot,
                    pictures.open(method, shot),
                    pictures.name(method, shot),
                    None if beside is None else pictures.open(method, beside),
                )
            )
        yield from meters.rows(method.name, method.listens_to, seen)
        bars.tick("measure", len(group))


@dataclass(eq=False)
class _Sets:
    """FID, KID and IS against the people's photos, which are looked at once a size."""

    pictures: Pictures
    network: Features
    _real: dict[tuple[str, tuple[int, int]], Told] = field(default_factory=dict)

    def scores(self, method: Method, group: PeopleSet, shots: Sequence[Shot]) -> list[Score]:
        own = [shot for shot in shots if shot.set_name == group.name]
        if not own:
            return []
        size = self.pictures.open(method, own[0]).size
        generated = told(self.network, (self.pictures.open(method, shot) for shot in own))
        found = numbers(generated, self._of_photos(group, size))
        return of_a_set(method.name, group.name, self.network.name, len(group.people), len(own), found)

    def _of_photos(self, group: PeopleSet, size: tuple[int, int]) -> Told:
        """All photos of the set's people, at the size of the pictures."""
        if (group.name, size) not in self._real:
            samples = [sample for person in group.people for sample in (*person.references, *person.others)]
            resized = (photo(sample).resize(size, Image.Resampling.BICUBIC, reducing_gap=1.0) for sample in samples)
            self._real[group.name, size] = told(self.network, resized)
        return self._real[group.name, size]
