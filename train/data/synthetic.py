"""A batch source without files: people who are patterns. For benchmarks of the loop and for its tests.

Latents, references and face crops depend on the identity, so that an adapter has something to learn; a colour
word in the background part says what the background of the latents is. Pictures are noise of no one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shards.encoders.pictures import ClipStates
from shards.encoders.text import TextStates
from train.adapters.adapter import Needs
from train.base_models import Base
from train.config import DropConfig
from train.data.batch import PARTS, Batch, Drop, Prompts, References
from train.data.draws import Draws
from train.data.references import others

_COLOURS = ("blue", "red", "green", "yellow")
_CLOTHES = ("dress", "jacket", "suit")
_FACE_PX = 64
_PHOTOS = 16
"""Of a person."""


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A `BatchSource`. `online`: VAE, text encoders and CLIP run for every batch, as without cached features."""

    base: Base
    needs: Needs
    draws: Draws
    size_px: int = 64
    identities: int = 4
    references: tuple[int, int] = (1, 4)
    drop: DropConfig = field(default_factory=DropConfig)
    masked_loss: float = 0.0
    online: bool = False
    _texts: dict[str, TextStates] = field(default_factory=dict)
    _clips: dict[tuple[int, int], ClipStates] = field(default_factory=dict)
    _drawn: dict[tuple[str, int, int, int], Tensor] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return f"synthetic-{self.size_px}-{self.identities}-{self.references}-{self.drop}-{self.masked_loss}"

    def batch(self, step: int, rows: range, batch_size: int) -> Batch:
        indices = [step * batch_size + row for row in rows]
        people = self.draws.integers("person", step, indices, self.identities).tolist()
        coins = self.draws.uniform("drop", step, indices)
        text, identity, both = self.drop.text, self.drop.identity, self.drop.both
        parts = [self.draws.uniform(f"drop {part}", step, indices) < self.drop.parts for part in PARTS[1:]]
        everything = (coins >= text + identity) & (coins < text + identity + both)
        drop = Drop(
            (coins < text) | everything, (coins >= text) & (coins < text + identity) | everything, parts[0], parts[1]
        )
        masked = self.draws.uniform("masked", step, indices) < self.masked_loss
        return self._made(step, indices, people, drop, masked)

    def held_out(self, count: int) -> Batch:
        people = [i % self.identities for i in range(count)]
        no = torch.zeros(count, dtype=torch.bool)
        return self._made(-1, list(range(count)), people, Drop.none(count), no)

    def swapped(self, batch: Batch) -> Batch:
        people = [int(batch.identities[row][1:]) for row in others(batch.identities)]
        return batch.replace(references=self._references(batch.step, list(batch.indices), people))

    def photos(self, count: int) -> Tensor:
        people = [i % self.identities for i in range(count)]
        return self._pictures("photo", list(range(count)), people, self.size_px)

    def faces(self, batch: Batch) -> list[list[Tensor]]:
        people = [int(name[1:]) for name in batch.identities]
        pictures = self._pictures("face", list(batch.indices), people, self.size_px)
        return [[picture] for picture in pictures]

    def _made(self, step: int, indices: list[int], people: list[int], drop: Drop, masked: Tensor) -> Batch:
        colours = self.draws.integers("colour", step, indices, len(_COLOURS)).tolist()
        side = self.size_px // self.base.vae.factor
        mask = torch.zeros(len(indices), 1, side, side)
        mask[:, :, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
        size = float(self.size_px)
        return Batch(
            step,
            tuple(indices),
            keys=tuple(f"p{person}-{index}" for person, index in zip(people, indices, strict=True)),
            identities=tuple(f"p{person}" for person in people),
            latents=self._latents(step, indices, people, colours),
            time_ids=torch.tensor([[size, size, 0, 0, size, size]] * len(indices)),
            prompts=self._prompts(step, indices, colours),
            references=self._references(step, indices, people),
            drop=drop,
            face_mask=mask,
            masked_loss=masked,
            keypoints=self._keypoints(step, indices)[:, 0] if self.needs.keypoints else None,
        )

    @torch.no_grad()
    def _latents(self, step: int, indices: list[int], people: list[int], colours: list[int]) -> Tensor:
        """Half the person, some of the background's colour, the rest the photo's own."""
        side = self.size_px // self.base.vae.factor
        shape = (self.base.vae.channels, side, side)
        if self.online:
            pictures = self._pictures("photo", indices, people, self.size_px).to(self.base.device)
            stats = self.base.vae.stats(pictures)
            return self.base.vae.latents(stats, torch.zeros_like(stats[:, : shape[0]])).float()
        person = self.draws.normal("person", 0, people, shape)
        colour = self.draws.normal("background", 0, colours, (shape[0], 1, 1))
        return 0.8 * person + 0.4 * colour + 0.4 * self.draws.normal("latent", step, indices, shape)

    def _prompts(self, step: int, indices: list[int], colours: list[int]) -> Prompts:
        clothes = self.draws.integers("clothes", step, indices, len(_CLOTHES)).tolist()
        background = tuple(f"a {_COLOURS[c]} wall" for c in colours)
        body = tuple(f"standing, wearing a {_CLOTHES[c]}" for c in clothes)
        general = tuple(f"a photo of a woman {words}, {wall}" for words, wall in zip(body, background, strict=True))
        texts = {"general": general, "background": background, "body": body}
        states = {part: self._encoded(texts[part]) for part in self.needs.text}
        if states:
            states[""] = self._encoded(("",))
        position = len("a photo of a woman")
        return Prompts(general, background, body, (position,) * len(indices), states)

    @torch.no_grad()
    def _encoded(self, texts: tuple[str, ...]) -> TextStates:
        if self.online:
            return self.base.text.encode(texts)
        for text in texts:
            if text not in self._texts:
                self._texts[text] = self.base.text.encode([text])
        rows = [self._texts[text] for text in texts]
        pooled = None if rows[0].pooled is None else torch.cat([cast(Tensor, row.pooled) for row in rows])
        return TextStates(torch.cat([row.hidden for row in rows]), pooled)

    def _references(self, step: int, indices: list[int], people: list[int]) -> References:
        least, most = self.references
        numbers = least + self.draws.integers("references", step, indices, most - least + 1)
        present = torch.arange(most)[None] < numbers[:, None]
        keys = tuple(tuple(f"p{p}-r{slot}" for slot in range(n)) for p, n in zip(people, numbers.tolist(), strict=True))
        if not self.needs.references:
            return References(keys, present)
        slots = [(person, slot) for person in people for slot in range(most)]
        shape = (len(people), most)
        there = present[..., None]
        faces = self._faces(slots).unflatten(0, shape) * there[..., None, None]
        return References(
            keys,
            present,
            faces=faces if self.needs.pixels else None,
            clip=self._clip(slots, shape) if self.needs.clip else None,
            embeddings=self._embeddings(slots).unflatten(0, shape) * there if self.needs.face else None,
            bodies=faces if self.needs.bodies else None,
            keypoints=self._keypoints(step, indices) * there[..., None] if self.needs.keypoints else None,
        )

    def _faces(self, slots: list[tuple[int, int]]) -> Tensor:
        people, numbers = [person for person, _ in slots], [slot for _, slot in slots]
        return self._pictures("face", numbers, people, _FACE_PX)

    @torch.no_grad()
    def _clip(self, slots: list[tuple[int, int]], shape: tuple[int, int]) -> ClipStates:
        """Of the face crops; every crop is looked at once, alone, unless `online`."""
        assert self.base.clip is not None
        if self.online:
            return _in_slots([self.base.clip(self._faces(slots).to(self.base.device))], shape)
        for slot in set(slots) - self._clips.keys():
            self._clips[slot] = self.base.clip(self._faces([slot]).to(self.base.device))
        return _in_slots([self._clips[slot] for slot in slots], shape)

    def _embeddings(self, slots: list[tuple[int, int]]) -> Tensor:
        assert self.base.face is not None
        people = self.draws.normal("embedding", 0, [person for person, _ in slots], (self.base.face.width,))
        photos = self.draws.normal("embedding of", 1, [slot for _, slot in slots], (self.base.face.width,))
        return torch.nn.functional.normalize(people + 0.3 * photos, dim=-1)

    def _keypoints(self, step: int, indices: list[int]) -> Tensor:
        numbers = torch.stack([self.draws.uniform(f"keypoint {i}", step, indices) for i in range(36)], dim=1)
        return numbers.float().reshape(len(indices), 1, 12, 3).expand(-1, self.references[1], -1, -1)

    def _pictures(self, purpose: str, indices: list[int], people: list[int], side_px: int) -> Tensor:
        """uint8 [B, 3, side, side]; a person has so many photos, drawn once: making them is no part of a step."""
        keys = [(purpose, person, i % _PHOTOS, side_px) for person, i in zip(people, indices, strict=True)]
        for key in set(keys) - self._drawn.keys():
            self._drawn[key] = torch.from_numpy(self._picture(*key))
        return torch.stack([self._drawn[key] for key in keys])

    def _picture(self, purpose: str, person: int, number: int, side_px: int) -> npt.NDArray[np.uint8]:
        """[3, side, side]: smooth stripes that are the person's, with noise that is the photo's."""
        y, x = np.mgrid[0:side_px, 0:side_px] / side_px
        own = self.draws.generator("person's picture", person).uniform(-1, 1, (3, 4))
        wave = np.sin(6 * (own[:, :1, None] * x + own[:, 1:2, None] * y) + 3 * own[:, 2:3, None]) + own[:, 3:, None]
        noise = self.draws.generator(purpose, person, number).normal(0, 0.1, wave.shape)
        return np.clip(128 + 60 * (wave + noise), 0, 255).astype(np.uint8)


def _in_slots(found: list[ClipStates], shape: tuple[int, int]) -> ClipStates:
    fields = zip(*(states.fields for states in found), strict=True)
    return ClipStates(*(torch.cat(states).unflatten(0, shape) for states in fields))
