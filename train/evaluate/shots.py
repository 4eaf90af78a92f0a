"""Which pictures are wanted, and drawing them: a picture a person, prompt and seed. Knows no file and no metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from train.adapters.adapter import Adapter
from train.asked import Asked, batch_of
from train.base_models import Base
from train.evaluate.people import PeopleSet, Person
from train.evaluate.prompts import given, prompts_of
from train.evaluate.settings import EvaluatePrompt, EvaluateSettings
from train.sampling import Sampling, noise_of, sample

PLAIN = "plain"
"""Stands for a set and its person: the same prompt and noise without anybody."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One wanted picture."""

    set_name: str
    person: Person
    """Of `PLAIN`: somebody, who is left out."""
    prompt: EvaluatePrompt
    seed: int

    @property
    def is_plain(self) -> bool:
        return self.set_name == PLAIN

    @property
    def name(self) -> str:
        """Folder and name of its file, without the ending."""
        who = () if self.is_plain else (self.person.identity,)
        return "/".join((self.set_name, *who, f"{self.prompt.name}-{self.seed}"))


def shots_of(sets: Sequence[PeopleSet], settings: EvaluateSettings, plain: bool) -> list[Shot]:
    """All, people and prompts in turn; `plain`: with those without anybody, before the others."""
    seeds = range(settings.seed, settings.seed + settings.images)
    found = [
        Shot(group.name, person, prompt, seed)
        for group in sets
        for person in group.people
        for prompt in prompts_of(settings)
        for seed in seeds
    ]
    somebody = found[0].person if found else None
    if not plain or somebody is None:
        return found
    return [Shot(PLAIN, somebody, prompt, seed) for prompt in prompts_of(settings) for seed in seeds] + found


def sampling_of(settings: EvaluateSettings) -> Sampling:
    return Sampling(settings.steps, settings.guidance, settings.merge_step, settings.scheduler, settings.negative)


def drawn(
    base: Base,
    adapter: Adapter,
    shots: Sequence[Shot],
    settings: EvaluateSettings,
    side_px: int,
    listens_to: Collection[str],
) -> Iterator[tuple[Shot, Image.Image]]:
    """Each with its picture, `settings.at_once` at a time; those without anybody apart from the others."""
    kinds = ([shot for shot in shots if shot.is_plain], [shot for shot in shots if not shot.is_plain])
    for kind in kinds:
        for at in range(0, len(kind), settings.at_once):
            part = kind[at : at + settings.at_once]
            yield from zip(part, _pictures(base, adapter, part, settings, side_px, listens_to), strict=True)


def _pictures(
    base: Base,
    adapter: Adapter,
    shots: Sequence[Shot],
    settings: EvaluateSettings,
    side_px: int,
    listens_to: Collection[str],
) -> list[Image.Image]:
    batch = batch_of(base, adapter, [asked(shot, listens_to) for shot in shots], side_px)
    how = sampling_of(settings)
    if shots[0].is_plain:
        batch, how = batch.without(identity=True), dataclasses.replace(how, merge_step=0)
    return sample(base, adapter, batch, how, noise_of(base, [shot.seed for shot in shots], side_px))


def asked(shot: Shot, listens_to: Collection[str]) -> Asked:
    """As the method is given it."""
    text = given(shot.prompt, listens_to)
    person = shot.person
    return Asked(text.general, text.background, text.body, text.trigger_position, person.references, pose=person.pose())
