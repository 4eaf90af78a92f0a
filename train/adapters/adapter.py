"""The seam: all that the loop, the gauges, generation and checkpoints know of a method.

An adapter is a torch module. It installs itself into the base's UNet when it is made, turns a batch into
conditions, and may add losses and branches of its own. The loop never asks which method it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from crawl.errors import InputError
from shards.encoders.pictures import ClipState
from train.adapters.settings import AdapterSettings
from train.base_models import Base
from train.data.batch import Batch
from train.step import Step, Term


@dataclass(frozen=True, slots=True)
class Needs:
    """What a batch must hold for this adapter; a dataset that cannot give it is refused before training."""

    references: bool = False
    pixels: bool = False
    """Face crops as pixels: the adapter runs (and perhaps trains) a vision tower of its own."""
    clip: bool = False
    """CLIP states of the references' face crops, by the base's frozen tower."""
    clip_states: tuple[ClipState, ...] = ("last", "penultimate", "pooled")
    """With `clip`, which of them; the others come with a width of 0. Fewer are less to cache and to read."""
    face: bool = False
    """Face embeddings of the references."""
    bodies: bool = False
    keypoints: bool = False
    """Of the picture wanted, and of the references."""
    pose: bool = False
    """With `keypoints`: those of the picture wanted are a condition, not only the measure of a loss."""
    text: tuple[str, ...] = ()
    """Parts of the caption wanted as encoded text (`Prompts.states`); an adapter that edits token ids wants none."""
    one_person: bool = False
    """The method is trained for one person: the run file names them (`data.identities`)."""
    parts: tuple[str, ...] = ("general",)
    """Parts of the caption that must not be empty in the whole dataset."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Tokens for a decoupled cross-attention of their own."""

    tokens: Tensor
    """[B, T, C]."""
    mask: Tensor | None = None
    """bool [B, T]: tokens that exist; None: all."""
    present: Tensor | None = None
    """bool [B]: false makes the stream an exact no-op for that sample; None: all present."""
    scale: float = 1.0
    """λ in Z = A(Q, K, V) + λ·A(Q, K′, V′)."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the UNet is called with."""

    text: Tensor
    """`encoder_hidden_states` [B, T, C]."""
    pooled: Tensor | None
    """[B, P], SDXL only."""
    time_ids: Tensor | None
    """[B, 6], SDXL only."""
    streams: Mapping[str, Stream] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share a learning rate: `optim.group_lr[name]`, or `optim.lr`."""

    name: str
    parameters: tuple[nn.Parameter, ...]


class Adapter(nn.Module):
    """A method. Sub-classes set `kind`, and override what differs.

    Randomly initialised parts are seeded by `settings.seed`. Parameters that live inside the UNet (processors,
    LoRA) must be reachable through this module too, so that `state_dict` holds all that is trained.
    """

    kind: ClassVar[str]

    def __init__(self, settings: AdapterSettings, base: Base) -> None:
        super().__init__()
        self.settings = settings
        self._base = [base]  # in a list: not a sub-module

    @property
    def base(self) -> Base:
        return self._base[0]

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        """Before any model loads."""
        raise NotImplementedError

    def groups(self) -> list[Group]:
        """What is trained. Every parameter that requires a gradient is in exactly one group."""
        raise NotImplementedError

    def conditions(self, batch: Batch) -> Conditions:
        """Honours `batch.drop`. Used alike for training, gauges and generation."""
        raise NotImplementedError

    def losses(self, step: Step) -> dict[str, Term]:
        """Named parts of the loss; the sum of weight × mean is minimised. Branches of a method go here."""
        return {"diffusion": Term(step.diffusion(self.conditions(step.batch)))}

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """One vector a sample [B, D] that carries its identity: the collapse gauge compares them."""
        raise NotImplementedError

    @classmethod
    def formats(cls, settings: AdapterSettings) -> frozenset[str]:
        """Published formats that weights of these settings can be written in; known before any model loads."""
        return frozenset({"native"})

    @classmethod
    def refusal(cls, settings: AdapterSettings, format: str) -> str | None:
        """Why weights of these settings cannot be written in `format`, naming the setting; None: they can."""
        return None if format in cls.formats(settings) else f"adapter.kind: {cls.kind} has no such form"

    def export(self, format: str) -> dict[str, Tensor]:
        """Flat keys of a published format → tensors on the CPU. `native` is `state_dict`."""
        assert format == "native", format
        return {key: value.detach().cpu() for key, value in self.state_dict().items()}

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        for group in self.groups():
            yield from group.parameters

    def fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another run's `state_dict` (`init_from`) in the shapes of this one's, where the method knows how."""
        return dict(state)

    @torch.no_grad()
    def load_weights(self, path: str) -> None:
        """Initialise from published weights of this method. Raises InputError naming file and key."""
        raise InputError(f"adapter.weights: {path}: {self.kind} has no published form to begin from: see init_from")
