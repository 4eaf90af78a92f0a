"""Whose pictures are made: people that the runs were trained on, people they never saw, people of a folder.

In-train are people whom every run trained on, out-of-train those whom none did, so that all methods show the same.
Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from crawl.errors import InputError
from crawl.output import Output
from filter.config import FilterConfig
from shards.format.index import INDEX, Index
from shards.format.sample import Sample
from shards.read import Dataset
from train.config import DataConfig
from train.data.dataset import only
from train.data.groups import split
from train.data.photos import Photo
from train.evaluate.settings import EvaluateSettings, SetName
from train.portraits import Portraits

PHOTO_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_LEAST = 2
"""Photos: one to show, one to compare with."""


@dataclass(frozen=True, slots=True)
class Person:
    """Reference photos, and other photos that no method is shown."""

    identity: str
    references: tuple[Sample, ...]
    others: tuple[Sample, ...]

    def pose(self) -> Tensor | None:
        """Keypoints [12, 3] of the first reference, x and y in 0–1 of the crop; None where no point is known."""
        points = Photo("", 0, "", 1, lambda: self.references[0]).keypoints()
        return points if bool(points[:, 2].any()) else None


@dataclass(frozen=True, slots=True)
class PeopleSet:
    """The people of one set, and what is to be said of them."""

    name: SetName
    people: tuple[Person, ...]
    note: str = ""


def sets_of(
    settings: EvaluateSettings, dataset: str, trained_on: Sequence[DataConfig], folder: str | None
) -> list[PeopleSet]:
    """The wanted sets, empty ones too. Raises InputError for data that is not there."""
    found = []
    for name in settings.sets:
        if name == "out_of_domain":
            people = tuple(_of_folder(folder, settings)) if folder else ()
            found.append(PeopleSet(name, people, "" if folder else "no folder was given (--out-of-domain)"))
        else:
            found.append(_of_dataset(name, settings, dataset, trained_on))
    return found


def open_dataset(url: str, field: str) -> Dataset:
    """Raises InputError naming `field` when there is none."""
    if not Output(url).exists(INDEX):
        raise InputError(f"{field}: {url}: no dataset here ({INDEX} is missing)")
    return Dataset(url)


def _of_dataset(name: SetName, settings: EvaluateSettings, url: str, trained_on: Sequence[DataConfig]) -> PeopleSet:
    with open_dataset(url, "--data") as dataset:
        index = dataset.index
        seen = [_trained(config, url, index) for config in trained_on]
        wanted = set.intersection(*seen) if name == "in_train" else set(index.identities) - set().union(*seen)
        enough = [identity for identity in wanted if len(index.identities[identity]) >= _LEAST]
        chosen = sorted(enough, key=lambda identity: _hash("evaluate", identity))[: settings.people]
        holdout = min(config.holdout for config in trained_on) if name == "in_train" else 1.0
        people = tuple(_person(dataset, name, identity, holdout, settings) for identity in chosen)
    return PeopleSet(name, people, _note(name, people, holdout, url))


def _trained(config: DataConfig, url: str, index: Index) -> set[str]:
    """People whom a run trains on."""
    if config.dataset == url:
        return set(only(index, config).identities)
    with open_dataset(config.dataset, "data.dataset of a run") as other:
        return set(only(other.index, config).identities) & set(index.identities)


def _person(dataset: Dataset, name: SetName, identity: str, holdout: float, settings: EvaluateSettings) -> Person:
    """References are training photos where there are any; the others were not trained on, where there are such."""
    positions = dataset.index.identities[identity]
    keys = {p: dataset.index.keys[p].decode() for p in positions}
    least = min(_LEAST if name == "in_train" else settings.references, len(positions) - 1)
    group = split(dataset.index, identity, np.arange(positions.start, positions.stop), holdout, max(least, 1))
    training = sorted((int(p) for p in group.training), key=lambda p: _hash("reference", keys[p]))
    references = training[: settings.references]
    others = [int(p) for p in group.held_out] or training[settings.references :]
    read = [tuple(dataset.sample(keys[p]) for p in part) for part in (references, others[: settings.photos])]
    return Person(identity, *read)


def _note(name: SetName, people: Sequence[Person], holdout: float, url: str) -> str:
    if not people:
        who = "whom every run trained on" if name == "in_train" else "whom no run trained on (data.holdout_people)"
        return f"{url} has nobody {who} with two photos or more"
    if name == "in_train" and holdout == 0:
        return "the other photos of these people were trained on (data.holdout is 0)"
    return ""


def _of_folder(folder: str, settings: EvaluateSettings) -> Iterator[Person]:
    """FOLDER/PERSON/*.jpg, or photos of a person each in FOLDER itself. Raises InputError naming the file."""
    if not Path(folder).is_dir():
        raise InputError(f"--out-of-domain: {folder}: no such folder")
    people = [(path.name, _photos(path)) for path in sorted(Path(folder).iterdir()) if path.is_dir()]
    people = [(name, photos) for name, photos in people if photos]
    people = people or [(path.stem, [path]) for path in _photos(Path(folder))]
    if not people:
        raise InputError(f"--out-of-domain: {folder}: holds no photos, nor folders of photos")
    portraits = Portraits(FilterConfig.model_validate({**settings.detecting().model_dump(), "pose": "none"}))
    for name, photos in people[: settings.people]:
        samples = [portraits.cut(str(path)) for path in photos[: settings.references + settings.photos]]
        yield Person(
            _hash("folder", name)[:16], tuple(samples[: settings.references]), tuple(samples[settings.references :])
        )


def _photos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_ENDINGS and path.is_file())


def _hash(purpose: str, name: str) -> str:
    return hashlib.sha256(f"{purpose} {name}".encode()).hexdigest()
