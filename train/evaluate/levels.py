"""What photos themselves score: between these levels a method lies. No picture is made, and no method is known.

`real`: another photo of the person, as good as can be asked for. `strangers`: photos of the other people of the set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from shards.format.sample import Sample
from train.evaluate.faces import Likeness
from train.evaluate.meters import Meters, photo
from train.evaluate.people import PeopleSet, Person
from train.evaluate.rows import REAL, STRANGERS, Row, named

MOST_STRANGERS = 16
"""A person is compared with the next so many of the set."""


def rows_of_photos(meters: Meters, group: PeopleSet) -> Iterator[Row]:
    """Face-Sim, `no_face` and CLIP-I, measured as of pictures; a photo is never compared with itself."""
    firsts = [meters.clip.images([photo(person.references[0])])[0] for person in group.people]
    for place, person in enumerate(group.people):
        yield from _real(meters, group, person)
        known, count = meters.known(person), len(group.people)
        around = [(place + step) % count for step in range(1, count)][:MOST_STRANGERS]
        for i, other in enumerate(around):
            sample = group.people[other].references[0]
            told = _told(meters, sample, firsts[other], known.likeness, known.photos)
            yield from _rows(STRANGERS, group, person, i, told)


def _real(meters: Meters, group: PeopleSet, person: Person) -> Iterator[Row]:
    photos = meters.known(person).photos
    for i, sample in enumerate(person.others):
        assert photos is not None
        rest = [j for j in range(len(photos)) if j != i]
        likeness = meters.faces.likeness(person.references, [person.others[j] for j in rest])
        yield from _rows(REAL, group, person, i, _told(meters, sample, photos[i], likeness, photos[rest]))


def _told(
    meters: Meters, sample: Sample, vector: Tensor, likeness: Mapping[str, Likeness], photos: Tensor | None
) -> Iterator[tuple[str, str, float | None]]:
    yield from meters.faces.numbers(likeness, meters.faces.seen(sample))
    if photos is not None and len(photos):
        yield "clip_i_photo", meters.clip.name, float((photos @ vector).mean())


def _rows(
    level: str, group: PeopleSet, person: Person, number: int, told: Iterator[tuple[str, str, float | None]]
) -> Iterator[Row]:
    for metric, model, value in told:
        yield Row(level, group.name, person.identity, "", number, "", named(metric, model), model, value)
