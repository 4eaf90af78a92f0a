"""IP-Adapter: references become tokens that every cross-attention layer attends to beside the text.

Encoders `base`, `plus` and `faceid`; one or several references. Knows nothing of files: `ip_formats` does.
Sources: arXiv 2308.06721; tencent-ailab/IP-Adapter (shapes, recipe).

A dropped sample, and one without references, sees what IP-Adapter trains with: one reference of zeros through the
projection (`base`, `faceid`), or a picture of zeros through CLIP and the resampler (`plus`). With `dropped: absent`
it sees the text alone.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from crawl.errors import InputError
from shards.encoders.load import load_clip, load_face
from shards.encoders.pictures import ClipState
from shards.encoders.tiny import seeded
from train.adapters import ip_formats
from train.adapters.adapter import Adapter, Conditions, Group, Needs
from train.adapters.aggregation import Mean, Pooling, aggregator
from train.adapters.attention import install_streams
from train.adapters.lora import add_lora
from train.adapters.projections import FaceProjection, LinearProjection
from train.adapters.published import read_weights
from train.adapters.reference_attention import ReferenceKv, ReferenceStream
from train.adapters.resampler import Resampler, resampler_dim
from train.adapters.settings import AdapterSettings, IpAdapterSettings
from train.base_models import Base
from train.data.batch import Batch

STREAM = "identity"


class IpAdapter(Adapter):
    """Z = A(Q, K, V) + λ·softmax(Q·Gᵀ/√d)·U over the references' tokens, in every cross-attention layer."""

    kind = "ip_adapter"
    settings: IpAdapterSettings
    nothing: Tensor

    def __init__(self, settings: IpAdapterSettings, base: Base) -> None:
        super().__init__(settings, base)
        with seeded(settings.seed):
            self.image_proj = _encoder(settings, base)
            how = {"of_keys": settings.keys, "of_values": settings.values}
            self.aggregation = nn.ModuleDict({k: aggregator(g, settings, base.context_width) for k, g in how.items()})
        make = partial(ReferenceKv, slots=settings.max_references if settings.per_slot else None)
        layers = install_streams(base, [STREAM], make)
        self.ip_adapter = nn.ModuleDict({str(index): layer.streams[STREAM] for index, layer in layers.items()})
        self.lora = add_lora(base, settings.lora, settings.seed) if settings.lora else None
        self.register_buffer("nothing", _nothing(settings, base), persistent=False)
        self.to(base.device)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        assert isinstance(settings, IpAdapterSettings)
        if settings.encoder == "faceid":
            return Needs(references=True, face=True, text=("general",))
        states: ClipState = "pooled" if settings.encoder == "base" else "penultimate"
        return Needs(references=True, clip=True, clip_states=(states,), text=("general",))

    def groups(self) -> list[Group]:
        parts = {"image_proj": self.image_proj, "ip_kv": self.ip_adapter, "aggregation": self.aggregation}
        if self.lora is not None:
            parts["lora"] = self.lora
        named = [Group(name, tuple(module.parameters())) for name, module in parts.items()]
        return [group for group in named if group.parameters]

    def conditions(self, batch: Batch) -> Conditions:
        text = batch.general()
        time_ids = batch.time_ids if self.base.has_time_ids else None
        return Conditions(text.hidden, text.pooled, time_ids, {STREAM: self.stream(batch)})

    def stream(self, batch: Batch) -> ReferenceStream:
        """The references' tokens, and how each layer pools them."""
        present = batch.references.present & ~batch.drop.identity[:, None]
        tokens, slots = self.tokens(batch, present)
        keys, values = (self.aggregation[side](tokens, slots) for side in ("of_keys", "of_values"))
        side_by_side = max(keys.count, values.count) > 1
        return ReferenceStream(
            tokens=tokens.flatten(1, 2),
            mask=slots.repeat_interleave(tokens.shape[2], dim=1) if side_by_side else None,
            present=present.any(1) if self.settings.dropped == "absent" else None,
            scale=self.settings.scale,
            keys=keys,
            values=values,
        )

    def tokens(self, batch: Batch, present: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, T, C] of the references that are `present` [B, N], and which slots hold any.

        A sample without references has one, of nothing, in its first slot.
        """
        features = self.features(batch)
        if features.shape[1] > self.settings.max_references:
            most = self.settings.max_references
            raise InputError(f"adapter.max_references: {most}, but a sample has {features.shape[1]} references")
        known = present.view(*present.shape, *[1] * (features.ndim - 2))
        first = torch.arange(present.shape[1], device=present.device) == 0
        slots = present | (first & ~present.any(1, keepdim=True))
        tokens: Tensor = self.image_proj(torch.where(known, features.float(), self.nothing))
        return tokens, slots

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """The tokens' mean over the references, end to end: [B, T·C]."""
        tokens, slots = self.tokens(batch, batch.references.present)
        pool: Pooling = Mean()(tokens, slots)
        return pool(tokens).flatten(1)

    @classmethod
    def formats(cls, settings: AdapterSettings) -> frozenset[str]:
        return frozenset(f for f in ("native", *ip_formats.FORMATS) if cls.refusal(settings, f) is None)

    @classmethod
    def refusal(cls, settings: AdapterSettings, format: str) -> str | None:
        assert isinstance(settings, IpAdapterSettings)
        return ip_formats.refusal(settings, format)

    def export(self, format: str) -> dict[str, Tensor]:
        if format == "native":
            return super().export(format)
        assert self.refusal(self.settings, format) is None
        return {key: value.cpu() for key, value in ip_formats.published(self).items()}

    def load_weights(self, path: str) -> None:
        """IP-Adapter's base, plus and faceid files, and its training script's raw checkpoints. Raises InputError."""
        ip_formats.load(self, read_weights(path), path)

    def features(self, batch: Batch) -> Tensor:
        """What the encoder takes: [B, N, P], [B, N, S, D] (`plus`) or [B, N, E] (`faceid`)."""
        references = batch.references
        if self.settings.encoder == "faceid":
            assert references.embeddings is not None
            return references.embeddings
        assert references.clip is not None
        return references.clip.pooled if self.settings.encoder == "base" else references.clip.penultimate


def _encoder(settings: IpAdapterSettings, base: Base) -> nn.Module:
    tokens, context_width = settings.token_count, base.context_width
    if settings.encoder == "faceid":
        face = base.face or load_face(base.config)
        return FaceProjection(face.width, tokens, context_width)
    clip = base.clip or load_clip(base.config)
    if settings.encoder == "base":
        return LinearProjection(clip.pooled_width, tokens, context_width)
    return Resampler(clip.width, resampler_dim(context_width), settings.depth, tokens, context_width)


@torch.no_grad()
def _nothing(settings: IpAdapterSettings, base: Base) -> Tensor:
    """What stands for a reference that is not there, as the encoder takes it."""
    if settings.encoder != "plus":
        return torch.zeros(())
    clip = base.clip or load_clip(base.config)
    side_px = int(clip.model.config.image_size)
    parameter = next(clip.model.parameters())
    black = torch.zeros(1, 3, side_px, side_px, dtype=parameter.dtype, device=parameter.device)
    return clip.states(black).penultimate[0].float()
