"""BoLID: Z = A(Q, K, V) + λ_f·A(Q, K_f, V_f) + λ_b·A(Q, K_b, V_b) — text, face, and body with its pose.

Face tokens come from the references' face embeddings, body tokens from CLIP's view of their bodies and from the
keypoints of the picture wanted. Its losses on the decoded picture are `picture_losses`. Source: BoLID (seed 000), a
proposal without sizes or figures: docs/bolid.md says what was chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crawl.errors import InputError
from shards.encoders.tiny import seeded
from train.adapters.adapter import Adapter, Conditions, Group, Needs, Stream
from train.adapters.aggregation import Pooling, aggregator
from train.adapters.attention import install_streams
from train.adapters.body_encoder import VISIBLE, PoseTokens
from train.adapters.picture_losses import PictureLosses
from train.adapters.projections import FaceProjection
from train.adapters.resampler import Resampler, resampler_dim
from train.adapters.settings import AdapterSettings, BolidSettings
from train.base_models import Base
from train.data.batch import Batch
from train.step import Step, Term

FACE, BODY = "face", "body"


class Bolid(Adapter):
    """Two streams beside the text. An absent face, body or pose is an exact no-op."""

    kind = "bolid"
    settings: BolidSettings

    def __init__(self, settings: BolidSettings, base: Base) -> None:
        super().__init__(settings, base)
        assert base.face is not None
        assert base.clip is not None
        width = base.context_width
        dim = resampler_dim(width)
        with seeded(settings.seed):
            self.face_proj = FaceProjection(base.face.width, settings.tokens, width)
            self.body_proj = Resampler(base.clip.width, dim, settings.depth, settings.tokens, width)
            self.pose_proj = PoseTokens(width)
            self.aggregation = nn.ModuleDict(
                {name: aggregator(settings.aggregation, settings, width) for name in (FACE, BODY)}
            )
        layers = install_streams(base, [FACE, BODY])
        self.attention = nn.ModuleDict({str(index): layer.streams for index, layer in layers.items()})
        self._picture_losses = PictureLosses(settings, base)
        self.to(base.device)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        return Needs(
            references=True,
            clip=True,
            clip_states=(),
            face=True,
            bodies=True,
            keypoints=True,
            pose=True,
            text=("general",),
        )

    def groups(self) -> list[Group]:
        parts = {
            "face_proj": self.face_proj, "body_proj": self.body_proj, "pose_proj": self.pose_proj,
            "aggregation": self.aggregation, "attention": self.attention,
        }  # fmt: skip
        named = [Group(name, tuple(module.parameters())) for name, module in parts.items()]
        return [group for group in named if group.parameters]

    def conditions(self, batch: Batch) -> Conditions:
        text = batch.general()
        time_ids = batch.time_ids if self.base.has_time_ids else None
        present = batch.references.present & ~batch.drop.identity[:, None]
        streams = {FACE: self._face(batch, present), BODY: self._body(batch, present)}
        return Conditions(text.hidden, text.pooled, time_ids, streams)

    def losses(self, step: Step) -> dict[str, Term]:
        """Diffusion, and on the decoded x̂0 what is configured."""
        return self._picture_losses.terms(step, step.predict(self.conditions(step.batch)))

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """The face tokens' mean over the references, end to end: [B, T·C]."""
        tokens = self._face_tokens(batch)
        present = batch.references.present[:, :, None, None]
        return ((tokens * present).sum(1) / present.sum(1).clamp(min=1)).flatten(1)

    def _face(self, batch: Batch, present: Tensor) -> Stream:
        tokens, mask = self._pooled(FACE, self._face_tokens(batch), present)
        return Stream(tokens, mask, scale=self.settings.scales.get("face", 1.0))

    def _body(self, batch: Batch, present: Tensor) -> Stream:
        """The looks of the references' bodies, and the pose of the picture wanted."""
        assert batch.keypoints is not None
        looks, mask = self._pooled(BODY, self._looks(batch), present)
        pose, seen = self.pose_proj(batch.keypoints), batch.keypoints[..., 2] >= VISIBLE
        mask = torch.cat([mask, seen], dim=1) & ~batch.drop.body[:, None]
        return Stream(torch.cat([looks, pose], dim=1), mask, scale=self.settings.scales.get("body", 1.0))

    def _face_tokens(self, batch: Batch) -> Tensor:
        """[B, N, T, C]."""
        embeddings = batch.references.embeddings
        assert embeddings is not None
        if embeddings.shape[1] > self.settings.max_references:
            most = self.settings.max_references
            raise InputError(f"adapter.max_references: {most}, but a sample has {embeddings.shape[1]} references")
        tokens: Tensor = self.face_proj(embeddings.float())
        return tokens

    def _looks(self, batch: Batch) -> Tensor:
        """[B, N, T, C], from the frozen tower's last but one states of the references' crops."""
        bodies, clip = batch.references.bodies, self.base.clip
        assert bodies is not None
        assert clip is not None
        with torch.no_grad():
            states = clip(bodies.flatten(0, 1)).penultimate
        tokens: Tensor = self.body_proj(states.float().unflatten(0, bodies.shape[:2]))
        return tokens

    def _pooled(self, name: str, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """G over the references: tokens [B, S, C] and which of them exist; none where there is no reference."""
        some = present.any(1)
        first = torch.arange(present.shape[1], device=present.device) == 0
        slots = present | (first & ~some[:, None])  # pooling wants one; the mask takes it away again
        pool: Pooling = self.aggregation[name](tokens, slots)
        pooled = pool(pool.tokens)
        there = slots if pool.count > 1 else torch.ones_like(slots[:, :1])
        mask = (there & some[:, None]).repeat_interleave(pooled.shape[2], dim=1)
        return pooled.flatten(1, 2), mask
