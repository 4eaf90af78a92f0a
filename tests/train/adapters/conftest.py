"""Batches of reference photos for adapters' tests: random pictures, ragged, one sample at a time too."""

from dataclasses import dataclass

import pytest
import torch

from shards.encoders.config import BaseConfig
from shards.encoders.pictures import ClipStates
from train.adapters import load_adapter
from train.base_models import Base, load_base
from train.data.batch import Batch, Drop, Prompts, References

FACE_WIDTH = 8


@dataclass
class FakeFace:
    """Stands where a face embedder is: only its width is asked for."""

    width: int = FACE_WIDTH


@pytest.fixture(scope="session")
def photo_batch():
    """`photo_batch(base, counts, …)`: see `make_batch`."""
    return make_batch


@pytest.fixture(scope="session")
def one_of():
    """`one_of(batch, i)`: sample i alone, with as many reference slots as it has references."""
    return alone


@pytest.fixture(scope="session")
def made():
    """`made(settings)`: a fresh tiny base, its frozen parts in `dtype`, and the adapter installed into it."""

    def make(settings, dtype=torch.float32):
        base = tiny_base()
        for module in (base.unet, base.text, base.clip):
            torch.nn.Module.to(module, dtype)
        return base, load_adapter(settings, base)

    return make


def tiny_base() -> Base:
    base = load_base(BaseConfig(), clip=True)
    base.face = FakeFace()
    return base


GENERAL = ("a photo of a tall woman in a red dress", "man", "a portrait of a young man standing by a tree")
POSITIONS = (23, 3, 25)
BACKGROUND = ("a white wall", "trees and grass", "a street with cars")
BODY = ("standing, arms at the sides", "sitting", "turned to the left")


def make_batch(base: Base, counts=(3, 1, 2), general=GENERAL, positions=POSITIONS, background=BACKGROUND, seed=0):
    """A sample for each of `counts`, with so many references. Pixels, CLIP states, face embeddings, text states."""
    rng, size, slots = torch.Generator().manual_seed(seed), len(counts), max(counts)
    present = torch.arange(slots) < torch.tensor(counts)[:, None]
    faces = torch.randint(0, 256, (size, slots, 3, 48, 48), generator=rng, dtype=torch.uint8)
    faces = faces * present[:, :, None, None, None]
    embeddings = torch.nn.functional.normalize(torch.randn(size, slots, FACE_WIDTH, generator=rng), dim=-1)
    with torch.no_grad():
        flat = base.clip(faces.flatten(0, 1))
        clip = ClipStates(*(states.unflatten(0, (size, slots)) for states in flat.fields))
        prompts = Prompts(general[:size], background[:size], BODY[:size], positions[:size])
        states = {part: base.text.encode(getattr(prompts, part)) for part in ("general", "background", "body")}
        states[""] = base.text.encode([""])
    return Batch(
        step=0,
        indices=tuple(range(size)),
        keys=tuple(f"target-{i}" for i in range(size)),
        identities=tuple(f"person-{i}" for i in range(size)),
        latents=torch.randn(size, 4, 8, 8, generator=rng),
        time_ids=torch.tensor([[64, 64, 0, 0, 64, 64]] * size, dtype=torch.float32),
        prompts=Prompts(prompts.general, prompts.background, prompts.body, prompts.trigger_position, states),
        references=References(
            tuple(tuple(f"reference-{i}-{n}" for n in range(count)) for i, count in enumerate(counts)),
            present,
            faces=faces,
            clip=clip,
            embeddings=embeddings * present[:, :, None],
        ),
        drop=Drop.none(size),
        face_mask=torch.ones(size, 1, 8, 8),
        masked_loss=torch.zeros(size, dtype=torch.bool),
    )


def alone(batch: Batch, i: int) -> Batch:
    slots, own = int(batch.references.present[i].sum()), slice(i, i + 1)
    states = {
        part: s if part == "" else type(s)(s.hidden[own], s.pooled[own]) for part, s in batch.prompts.states.items()
    }
    p, r = batch.prompts, batch.references
    return batch.replace(
        indices=batch.indices[own],
        keys=batch.keys[own],
        identities=batch.identities[own],
        latents=batch.latents[own],
        time_ids=batch.time_ids[own],
        prompts=Prompts(p.general[own], p.background[own], p.body[own], p.trigger_position[own], states),
        references=References(
            r.keys[own],
            r.present[own, :slots],
            faces=r.faces[own, :slots],
            clip=ClipStates(*(states[own, :slots] for states in r.clip.fields)),
            embeddings=r.embeddings[own, :slots],
        ),
        drop=Drop(batch.drop.text[own], batch.drop.identity[own], batch.drop.background[own], batch.drop.body[own]),
        face_mask=batch.face_mask[own],
        masked_loss=batch.masked_loss[own],
    )
