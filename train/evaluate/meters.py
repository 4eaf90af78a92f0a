"""All meters of one evaluation, loaded once, and the numbers they give of pictures. Knows no file and no page."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from crawl.photo import Rejection
from filter.keypoints import PoseEstimator
from filter.models import embedder_spec, licences, load_pose, pose_names
from shards.encoders.inputs import crop_image
from shards.format.sample import Sample
from train.evaluate.clip import Clip, load_clip_scores
from train.evaluate.faces import Faces, Likeness, Look
from train.evaluate.people import Person
from train.evaluate.pose import Points, accuracy
from train.evaluate.prompts import given
from train.evaluate.rows import Row, named
from train.evaluate.settings import EvaluatePrompt, EvaluateSettings
from train.evaluate.shots import Shot
from train.evaluate.weights import ALEXNET, INCEPTION, load_lpips

_DIV_PX = 64
"""Side of the faces that LPIPS compares with `tiny`; 224 with AlexNet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture to be measured."""

    shot: Shot
    picture: Image.Image
    path: str = ""
    plain: Image.Image | None = None
    """The same noise and prompt without anybody."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a person, worked out once."""

    likeness: Mapping[str, Likeness]
    photos: Tensor | None
    """CLIP's vectors of other photos [n, P]."""


@dataclass(eq=False)
class Meters:
    """Loaded by `load`; what is known of people is remembered."""

    settings: EvaluateSettings
    faces: Faces
    clip: Clip
    lpips: torch.nn.Module
    pose: PoseEstimator | None
    _known: dict[str, Known] = field(default_factory=dict)

    @staticmethod
    def load(settings: EvaluateSettings) -> Meters:
        """Raises InputError for missing packages and weights."""
        return Meters(
            settings,
            Faces(settings),
            load_clip_scores(settings.clip, settings.clip_revision),
            load_lpips(settings.lpips),
            None if settings.pose == "none" else load_pose(settings.detecting()),
        )

    def rows(self, method: str, listens_to: frozenset[str], group: Sequence[Seen]) -> Iterator[Row]:
        """Of the pictures of one person by one prompt."""
        looks = [self.faces.look(one.picture) for one in group]
        vectors = self.clip.images([one.picture for one in group])
        apart = self._face_div(looks)
        for i, (one, look) in enumerate(zip(group, looks, strict=True)):
            shot = one.shot
            told = [
                *self._face(shot.person, look),
                *self._text(shot.prompt, listens_to, vectors[i]),
                *self._likeness(one, vectors[i]),
                *self._pose(one, look),
                ("face_div", self.settings.lpips, apart[i]),
            ]
            for metric, model, value in told:
                yield Row(
                    method, shot.set_name, shot.person.identity, shot.prompt.name, shot.seed, one.path,
                    named(metric, model), model, value,
                )  # fmt: skip

    def _face(self, person: Person, look: Look | None) -> Iterator[tuple[str, str, float | None]]:
        return self.faces.numbers(self.known(person).likeness, None if look is None else look.vectors)

    def _text(
        self, prompt: EvaluatePrompt, listens_to: frozenset[str], vector: Tensor
    ) -> Iterator[tuple[str, str, float | None]]:
        texts = {
            "clip_t_clean": prompt.whole,
            "clip_t_clean_general": prompt.general,
            "clip_t_clean_body": prompt.body,
            "clip_t_clean_background": prompt.background,
            "clip_t_thesis": given(prompt, listens_to).as_typed,
        }
        for metric, text in texts.items():
            yield metric, self.clip.name, clip_t(vector, self.clip.text(text)) if text else None
        yield "clip_t_truncated", self.clip.name, float(self.clip.truncated(prompt.whole))

    def _likeness(self, one: Seen, vector: Tensor) -> Iterator[tuple[str, str, float | None]]:
        photos = self.known(one.shot.person).photos
        if one.plain is not None:
            yield "clip_i_plain", self.clip.name, float(self.clip.images([one.plain])[0] @ vector)
        yield "clip_i_photo", self.clip.name, None if photos is None else float((photos @ vector).mean())

    def _pose(self, one: Seen, look: Look | None) -> Iterator[tuple[str, str, float | None]]:
        wanted = one.shot.person.pose()
        if self.pose is None or wanted is None:
            return
        model = " ".join(pose_names(self.settings.detecting()))
        found = self._keypoints(look)
        yield "no_pose", model, float(found is None)
        if found is not None:
            for metric, value in accuracy(found, wanted.double().numpy()).items():
                yield metric, model, value

    def _keypoints(self, look: Look | None) -> Points | None:
        """x, y in 0–1 of the picture, visibility [12, 3]; None without a face or a body."""
        assert self.pose is not None
        if look is None:
            return None
        answer = self.pose.estimate([Image.fromarray(look.image)], [look.face])[0]
        if isinstance(answer, Rejection):
            return None
        height, width = look.image.shape[:2]
        points = np.asarray(answer.keypoints_px, np.float64) / (width, height)
        return np.column_stack([points, answer.scores])

    @torch.no_grad()
    def _face_div(self, looks: Sequence[Look | None]) -> list[float | None]:
        """Mean LPIPS of each face to the other faces; None for one alone."""
        side_px = _DIV_PX if self.settings.lpips == "tiny" else 224
        device = next(self.lpips.parameters()).device
        faces = {i: _square(look.crop(), side_px).to(device) for i, look in enumerate(looks) if look is not None}
        apart: dict[int, list[float]] = {i: [] for i in faces}
        for i, j in itertools.combinations(faces, 2):
            value = float(self.lpips(faces[i], faces[j]))
            apart[i].append(value)
            apart[j].append(value)
        return [float(np.mean(apart[i])) if apart.get(i) else None for i in range(len(looks))]

    def known(self, person: Person) -> Known:
        """Of their photos."""
        if person.identity not in self._known:
            photos = [photo(sample) for sample in person.others]
            self._known[person.identity] = Known(
                self.faces.likeness(person.references, person.others), self.clip.images(photos) if photos else None
            )
        return self._known[person.identity]


def clip_t(picture: Tensor, text: Tensor) -> float:
    """100·cos of two unit vectors."""
    return 100 * float(picture @ text)


def photo(sample: Sample) -> Image.Image:
    """The training crop."""
    return Image.fromarray(crop_image(sample, sample.key))


def by_person_and_prompt(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Groups of shots that differ by their seed only, in order."""
    groups: dict[tuple[str, str, str], list[Shot]] = {}
    for shot in shots:
        if not shot.is_plain:
            groups.setdefault((shot.set_name, shot.person.identity, shot.prompt.name), []).append(shot)
    return list(groups.values())


def licence_lines(settings: EvaluateSettings) -> list[str]:
    """One a model in use, each once."""
    lines = licences(settings.detecting())
    for name in settings.embedders:
        own = settings.embedding(name)
        pinned = [f"{spec.name}: {spec.licence} ({spec.source})" for spec in embedder_spec(own).weights]
        lines += pinned or licences(own)[-1:]
    specs = [INCEPTION] * (settings.inception != "tiny") + [ALEXNET] * (settings.lpips != "tiny")
    lines += [f"{spec.name}: {spec.licence} ({spec.source})" for spec in specs]
    if settings.clip is not None:
        lines.append(f"CLIP {settings.clip}: as its model card says")
    return list(dict.fromkeys(lines))


def library_versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    names = ("personae", "torch", "torchmetrics", "torch-fidelity", "transformers", "diffusers", "pillow", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _square(picture: Image.Image, side_px: int) -> Tensor:
    """In [−1, 1], [1, 3, side, side]."""
    resized = picture.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized, np.float32).transpose(2, 0, 1).copy())[None] / 127.5 - 1
