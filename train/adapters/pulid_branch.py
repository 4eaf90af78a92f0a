"""PuLID's Lightning branch as parts of the loss: pictures drawn from pure noise, judged for identity and alignment.

The ID loss looks at portraits by one fixed prompt, alignment at pictures of a list of prompts — or at the same
portraits, where there is no list. Knows neither encoder nor attention: conditions come from the adapter.
Source: arXiv 2404.16022, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from filter.config import FilterConfig
from shards.encoders.text import TextStates
from train.adapters.adapter import Adapter, Conditions
from train.adapters.alignment import alignment
from train.adapters.attention import Watch
from train.adapters.id_loss import IdLoss, as_faces, centred, detected
from train.adapters.settings import LightningSettings
from train.base_models import Base
from train.data.batch import Batch
from train.decoded import decoded
from train.distilled import distilled
from train.lightning import Lightning
from train.recognisers import load_recogniser
from train.step import Step, Term

MakeConditions = Callable[[Batch, TextStates, Tensor], tuple[Conditions, Conditions]]
"""References of a batch, text, time ids → with identity, and without."""


class Branch:
    """Raises InputError for weights that are missing, when they are first used."""

    def __init__(self, base: Base, settings: LightningSettings, adapter: Adapter, make: MakeConditions) -> None:
        self._base, self._settings, self._make = base, settings, make
        unet = base.unet
        if settings.weights is not None:
            unet = distilled(settings.weights, base, adapter, settings.revision)
        self._lightning = Lightning(
            base, unet, settings.steps, settings.backprop_steps, settings.gradient_checkpointing
        )  # fmt: skip
        self._texts: dict[str, TextStates] = {}

    def terms(self, step: Step) -> dict[str, Term]:
        """`id`, `semantic`, `layout`, each where its weight is above 0; and `faces`, the share that was found."""
        settings = self._settings
        terms: dict[str, Term] = {}
        together = not settings.prompts
        if settings.id_weight or together:
            latents, terms = self._drawn(step, [settings.id_prompt] * len(step.batch), settings.aligns and together)
            if settings.id_weight:
                terms |= self._identity(latents, step.batch)
        if settings.aligns and not together:
            chosen = step.draws.integers("lightning prompt", step.batch.step, step.batch.indices, len(settings.prompts))
            terms |= self._drawn(step, [settings.prompts[number] for number in chosen.tolist()], True)[1]
        return terms

    def _drawn(self, step: Step, prompts: Sequence[str], aligned: bool) -> tuple[Tensor, dict[str, Term]]:
        """Latents, and the alignment terms."""
        self._lightning.follow(self._base.unet)
        shape = step.batch.latents.shape[1:]
        noise = step.draws.normal("lightning noise", step.batch.step, step.batch.indices, shape)
        merged, plain = self._make(step.batch, self._text(prompts), self._time_ids(step.batch))
        found: list[tuple[Tensor, Tensor]] = []

        def compare(one: Watch, other: Watch) -> None:
            found.append(alignment(one, other))

        noise = noise.to(step.batch.latents.device)
        latents = self._lightning.draw(noise, merged, plain if aligned else None, compare)
        weights = {"semantic": self._settings.semantic_weight, "layout": self._settings.layout_weight}
        means = [torch.stack(losses).mean(dim=0) for losses in zip(*found, strict=True)]
        terms = zip(weights, means, strict=False)
        return latents, {name: Term(mean, weights[name]) for name, mean in terms if weights[name]}

    def _identity(self, latents: Tensor, batch: Batch) -> dict[str, Term]:
        images = decoded(self._base, latents, self._settings.gradient_checkpointing)
        losses, found = self._id_loss(images, self.targets(batch))
        return {"id": Term(losses, self._settings.id_weight), "faces": Term(found.float(), 0.0)}

    @torch.no_grad()
    def cosines(self, step: Step, *targets: Tensor) -> list[Tensor]:
        """Of the portraits that `terms` draws to each of these vectors [B, E]: [B], 0 where no face is found."""
        latents, _ = self._drawn(step, [self._settings.id_prompt] * len(step.batch), False)
        images = decoded(self._base, latents)
        judged = (self._id_loss(images, vectors) for vectors in targets)
        return [(1 - losses) * found for losses, found in judged]

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """φ(C_id): the references' mean vector [B, E], unit length."""
        references = batch.references
        if self._id_loss.recogniser.knows_people:
            assert references.embeddings is not None
            vectors = references.embeddings
        else:
            assert references.faces is not None
            vectors = self._id_loss.recogniser(as_faces(references.faces.flatten(0, 1)))
            vectors = vectors.unflatten(0, references.present.shape)
        return functional.normalize((vectors * references.present[..., None]).sum(dim=1), dim=-1)

    @cached_property
    def _id_loss(self) -> IdLoss:
        config = self._base.config
        kind = "random" if self._settings.recogniser == "random" else config.face
        recogniser = load_recogniser(kind, config).to(self._base.device)
        if self._settings.faces == "centre":
            return IdLoss(recogniser, centred)
        models = FilterConfig(
            models=config.face, insightface_pack=config.insightface_pack, accept_licence=config.accept_licence
        )
        return IdLoss(recogniser, detected(models))

    @torch.no_grad()
    def _text(self, prompts: Sequence[str]) -> TextStates:
        for prompt in set(prompts) - self._texts.keys():
            self._texts[prompt] = self._base.text.encode([prompt])
        rows = [self._texts[prompt] for prompt in prompts]
        pooled = [row.pooled for row in rows if row.pooled is not None]
        return TextStates(torch.cat([row.hidden for row in rows]), torch.cat(pooled) if pooled else None)

    def _time_ids(self, batch: Batch) -> Tensor:
        """Of an uncropped picture of this size."""
        height, width = (side * self._base.vae.factor for side in batch.latents.shape[-2:])
        return torch.tensor([[height, width, 0, 0, height, width]] * len(batch)).to(batch.time_ids)
