"""PuLID: identity as tokens of an attention of its own, trained by a diffusion and a Lightning branch.

Sources: arXiv 2404.16022; ToTheBeginning/PuLID (shapes). What the branches judge is in `pulid_branch`. A dropped
sample, and one without references, sees what PuLID's guidance sees: one reference of zeros through the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crawl.errors import InputError
from shards.encoders.load import load_clip, load_face
from shards.encoders.text import TextStates
from shards.encoders.tiny import seeded
from train.adapters import pulid_format
from train.adapters.adapter import Adapter, Conditions, Group, Needs
from train.adapters.aggregation import Mean
from train.adapters.attention import install_streams
from train.adapters.published import read_weights
from train.adapters.pulid_attention import IdentityKv, IdentityStream
from train.adapters.pulid_branch import Branch
from train.adapters.pulid_encoders import ID_TOKENS, IdEncoder, IdFormer
from train.adapters.settings import AdapterSettings, PulidSettings
from train.base_models import Base
from train.data.batch import Batch, Drop
from train.step import Step, Term

STREAM = "identity"


class Pulid(Adapter):
    """Z = A(Q, K, V) + λ·A(Q, K_id, V_id), or what a mode leaves of it, in every cross-attention layer."""

    kind = "pulid"
    settings: PulidSettings

    def __init__(self, settings: PulidSettings, base: Base) -> None:
        super().__init__(settings, base)
        face, clip = base.face or load_face(base.config), base.clip or load_clip(base.config)
        make = {"v1": IdEncoder, "v1.1": IdFormer}[settings.version]
        with seeded(settings.seed):
            self.id_adapter = make(face.width + clip.pooled_width, clip.width, base.context_width)
        layers = install_streams(base, [STREAM], IdentityKv)
        self.id_adapter_attn_layers = nn.ModuleDict({str(i): layer.streams[STREAM] for i, layer in layers.items()})
        self._branch: list[Branch] = []  # made when it is first asked for; in a list: not a sub-module
        self.to(base.device)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        assert isinstance(settings, PulidSettings)
        lightning = settings.lightning
        pixels = lightning.id_weight > 0 and lightning.recogniser == "random"
        return Needs(
            references=True, pixels=pixels, clip=True, clip_states=("pooled", "scales"), face=True, text=("general",)
        )

    def groups(self) -> list[Group]:
        parts = {"id_encoder": self.id_adapter, "id_kv": self.id_adapter_attn_layers}
        return [Group(name, tuple(module.parameters())) for name, module in parts.items()]

    def conditions(self, batch: Batch) -> Conditions:
        text = batch.general()
        return self.conditions_of(batch, text, batch.time_ids)

    def conditions_of(self, batch: Batch, text: TextStates, time_ids: Tensor) -> Conditions:
        """The batch's references with this text [B, 77, C]."""
        present = batch.references.present & ~batch.drop.identity[:, None]
        tokens, slots = self.tokens(batch, present)
        each = tokens.shape[2]
        stream = IdentityStream(
            tokens=tokens.flatten(1, 2),
            mask=slots.repeat_interleave(each, dim=1) if slots.shape[1] > 1 else None,
            scale=self.settings.scale,
            mode=self.settings.mode,
            own=(torch.arange(each, device=tokens.device) < ID_TOKENS).repeat(slots.shape[1]),
        )
        return Conditions(text.hidden, text.pooled, time_ids if self.base.has_time_ids else None, {STREAM: stream})

    def tokens(self, batch: Batch, present: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, T, C] of the references that are `present` [B, N], and which slots hold any.

        A sample without references has one, of zeros, in its first slot.
        """
        references, most = batch.references, self.settings.max_references
        assert references.clip is not None
        assert references.embeddings is not None
        if present.shape[1] > most:
            raise InputError(f"adapter.max_references: {most}, but a sample has {present.shape[1]} references")
        face = references.embeddings * self.settings.face_norm
        vector = torch.cat([face, functional.normalize(references.clip.pooled.float(), dim=-1)], dim=-1)
        vector = vector * present[..., None]
        scales = references.clip.scales.float() * present[..., None, None, None]
        first = torch.arange(present.shape[1], device=present.device) == 0
        slots = present | (first & ~present.any(1, keepdim=True))
        tokens: Tensor = self.id_adapter(vector.flatten(0, 1), scales.flatten(0, 1))
        return tokens.unflatten(0, present.shape), slots

    def losses(self, step: Step) -> dict[str, Term]:
        terms = super().losses(step)
        if self.settings.lightning.is_used:
            terms |= self.branch.terms(step)
        return terms

    @property
    def branch(self) -> Branch:
        """The Lightning branch; its models load when it is first asked for. Raises InputError."""
        if not self._branch:
            self._branch.append(Branch(self.base, self.settings.lightning, self, self._with_prompts))
        return self._branch[0]

    def _with_prompts(self, batch: Batch, text: TextStates, time_ids: Tensor) -> tuple[Conditions, Conditions]:
        """With identity, nothing dropped; and the same text alone."""
        merged = self.conditions_of(batch.replace(drop=Drop.none(len(batch))).to(self.base.device), text, time_ids)
        return merged, Conditions(merged.text, merged.pooled, merged.time_ids)

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """The tokens' mean over the references, end to end: [B, T·C]."""
        tokens, slots = self.tokens(batch, batch.references.present)
        return Mean()(tokens, slots)(tokens).flatten(1)

    @classmethod
    def formats(cls, settings: AdapterSettings) -> frozenset[str]:
        return frozenset(f for f in ("native", "pulid") if cls.refusal(settings, f) is None)

    @classmethod
    def refusal(cls, settings: AdapterSettings, format: str) -> str | None:
        assert isinstance(settings, PulidSettings)
        if format not in ("native", "pulid"):
            return f"adapter.kind: pulid has no form for {format}"
        if format == "pulid" and settings.scale == 0:
            return "adapter.scale: 0: λ is multiplied into id_to_v, and nothing would be left"
        return None

    def export(self, format: str) -> dict[str, Tensor]:
        if format == "native":
            return super().export(format)
        assert self.refusal(self.settings, format) is None
        return pulid_format.published(self.id_adapter, self.id_adapter_attn_layers, self.settings.scale)

    def load_weights(self, path: str) -> None:
        """PuLID's v1 and v1.1 files, in either spelling of their keys. Raises InputError."""
        state = read_weights(path)
        pulid_format.load(self.id_adapter, self.id_adapter_attn_layers, self.settings.scale or 1.0, state, path)
