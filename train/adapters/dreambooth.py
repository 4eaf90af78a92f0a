"""DreamBooth: one person's photos teach the UNet what "sks man" looks like; the class keeps its own look.

Nothing is installed but LoRA: the person is in the weights and in a word. L = L(x, "a photo of a sks man") +
λ·L(x_prior, "a photo of a man"), where the untrained base made x_prior. Source: arXiv 2208.12242 eq. 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from shards.encoders.text import TextStates
from train.adapters.adapter import Adapter, Conditions, Group, Needs
from train.adapters.lora import add_lora
from train.adapters.settings import AdapterSettings, DreamBoothSettings
from train.adapters.words import trained_with, with_identifier
from train.base_models import Base
from train.class_pictures import class_latents
from train.data.batch import Batch
from train.step import Step, Term

LORA_PREFIX = "unet."
"""Of keys in a LoRA file, as diffusers' `load_lora_weights` wants them."""


class DreamBooth(Adapter):
    """One person a run."""

    kind = "dreambooth"
    settings: DreamBoothSettings

    def __init__(self, settings: DreamBoothSettings, base: Base) -> None:
        super().__init__(settings, base)
        self.lora = None if settings.lora is None else add_lora(base, settings.lora, settings.seed)
        self._prior: Tensor | None = None
        self._states: dict[str, TextStates] = {}
        self.to(base.device)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        return Needs(one_person=True)

    def groups(self) -> list[Group]:
        return [] if self.lora is None else [Group("lora", tuple(self.lora.parameters()))]

    def conditions(self, batch: Batch) -> Conditions:
        """The batch's own prompts, the identifier before their class word; without `identity`, as they are."""
        prompts = batch.prompts
        known = zip(prompts.general, prompts.trigger_position, batch.drop.identity.tolist(), strict=True)
        word = self.settings.identifier
        return self._of([text if gone else with_identifier(text, at, word) for text, at, gone in known], batch)

    def losses(self, step: Step) -> dict[str, Term]:
        """Of the person, and of the class."""
        settings, batch = self.settings, step.batch
        prompts, positions = trained_with(batch, settings.prompt)
        named = [with_identifier(p, at, settings.identifier) for p, at in zip(prompts, positions, strict=True)]
        terms = {"diffusion": Term(step.diffusion(self._of(named, batch)))}
        if settings.prior_weight:
            terms["prior"] = Term(self._of_class(step, prompts), settings.prior_weight)
        return terms

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """There are none: the person is in the weights."""
        return batch.latents.new_zeros(len(batch), 1)

    @classmethod
    def refusal(cls, settings: AdapterSettings, format: str) -> str | None:
        assert isinstance(settings, DreamBoothSettings)
        if format == "native":
            return None
        if format != "diffusers":
            return "adapter.kind: dreambooth has no such form"
        return "adapter.lora: null: the UNet itself is trained" if settings.lora is None else None

    @classmethod
    def formats(cls, settings: AdapterSettings) -> frozenset[str]:
        return frozenset(f for f in ("native", "diffusers") if cls.refusal(settings, f) is None)

    def export(self, format: str) -> dict[str, Tensor]:
        """`diffusers`: a LoRA file for `load_lora_weights`."""
        if format != "diffusers":
            return super().export(format)
        assert self.lora is not None
        return {f"{LORA_PREFIX}{key}": value for key, value in self.lora.state.items()}

    def _of(self, prompts: Sequence[str], batch: Batch) -> Conditions:
        shown = ["" if gone else text for gone, text in zip(batch.drop.text.tolist(), prompts, strict=True)]
        for text in set(shown) - self._states.keys():
            with torch.no_grad():
                self._states[text] = self.base.text.encode([text])
        states = [self._states[text] for text in shown]
        pooled = [state.pooled for state in states if state.pooled is not None]
        time_ids = batch.time_ids if self.base.has_time_ids else None
        return Conditions(torch.cat([s.hidden for s in states]), torch.cat(pooled) if pooled else None, time_ids)

    def _of_class(self, step: Step, prompts: Sequence[str]) -> Tensor:
        """[B], with noise, timesteps and pictures of its own."""
        base, batch, draws = self.base, step.batch, step.draws
        if self._prior is None:
            self._prior = self._made(prompts[0], batch)
        at = (batch.step, batch.indices)
        rows = draws.integers("prior picture", *at, len(self._prior))
        latents = self._prior[rows.to(self._prior.device)]
        noise = draws.normal("prior noise", *at, latents.shape[1:]).to(latents.device)
        steps = int(base.schedule.config.num_train_timesteps)
        timesteps = draws.integers("prior timestep", *at, steps).to(latents.device)
        noisy = base.add_noise(latents, noise, timesteps)
        predicted = step.predict(self._of(prompts, batch), noisy, timesteps)
        target = base.target(latents, noise, timesteps).float()
        return functional.mse_loss(predicted, target, reduction="none").flatten(1).mean(1)

    @torch.no_grad()
    def _made(self, prompt: str, batch: Batch) -> Tensor:
        """Latents [N, C, h, w] of the class, by the base as it was: made again, alike, when a run goes on."""
        settings, side_px = self.settings, batch.latents.shape[-1] * self.base.vae.factor
        with self._untrained() as base:
            return class_latents(
                base,
                prompt,
                settings.prior_images,
                settings.prior_steps,
                settings.prior_guidance,
                side_px,
                settings.seed,
            )

    @contextmanager
    def _untrained(self) -> Iterator[Base]:
        if self.lora is None:
            yield self.base.untrained()
            return
        self.base.unet.disable_adapters()
        try:
            yield self.base
        finally:
            self.base.unet.enable_adapters()
