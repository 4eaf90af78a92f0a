"""BoLID's follow-up: Z = A(Q, K, V) + λ_ref·A(Q, K_ref, V_ref) + λ_b·A(Q, K_b, V_b), the body as one latent vector.

Every view of a person is dimmed away from its keypoints, goes through the VAE's encoder, and all views are pooled,
in any number and order, to c_body; four tokens of it, and four of a reference's CLIP embedding. Works from text and
c_body alone. Source: BoLID's authors' repository (2025), which gives the weighting, the width 756, the projections;
how latents become the vector it leaves open: see docs/bolid.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crawl.errors import InputError
from shards.encoders.tiny import seeded
from train.adapters.adapter import Adapter, Conditions, Group, Needs, Stream
from train.adapters.attention import install_streams
from train.adapters.body_encoder import VISIBLE
from train.adapters.picture_losses import PictureLosses
from train.adapters.projections import LinearProjection
from train.adapters.settings import AdapterSettings, BolidLatentSettings
from train.base_models import Base
from train.data.batch import Batch
from train.step import Step, Term

REFERENCE, BODY = "reference", "body"
GRID = 8
"""Side of the grid that a view's latents are averaged to, so that any size of picture fits."""


class BodyVector(nn.Module):
    """Latents of a person's views [B, N, C, h, w] → c_body [B, width]: each view for itself, their mean, and on.

    Any number of views in any order (Deep Sets, arXiv 1703.06114).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.view = nn.Sequential(nn.Linear(channels * GRID * GRID, width), nn.GELU(), nn.Linear(width, width))
        self.whole = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, latents: Tensor, present: Tensor) -> Tensor:
        """`present` bool [B, N]; zero where a sample has no view."""
        grids = functional.adaptive_avg_pool2d(latents.flatten(0, 1), GRID).flatten(1).unflatten(0, present.shape)
        views = self.view(grids) * present[..., None]
        mean = views.sum(1) / present.sum(1, keepdim=True).clamp(min=1)
        vector: Tensor = self.whole(mean) * present.any(1, keepdim=True)
        return vector


def weighted(images: Tensor, keypoints: Tensor, sigma: float, floor: float) -> Tensor:
    """I·(α + (1 − α)·W) of images in [−1, 1] [M, 3, H, W]; black far from the body, the whole picture without a body.

    W = max over the visible ones of `keypoints` [M, 12, 3] of exp(−d²/2σ²), with `sigma` in sides of the picture.
    """
    height, width = images.shape[-2:]
    y = (torch.arange(height, device=images.device) + 0.5) / height
    x = (torch.arange(width, device=images.device) + 0.5) / width
    seen = keypoints[..., 2] >= VISIBLE
    across = (x - keypoints[..., :1]).square()[..., None, :] + (y - keypoints[..., 1:2]).square()[..., :, None]
    nearest = across.masked_fill(~seen[..., None, None], torch.inf).amin(1)
    weight = torch.exp(-nearest / (2 * sigma**2))
    weight = torch.where(seen.any(1)[:, None, None], weight, torch.ones_like(weight))
    strength = (floor + (1 - floor) * weight)[:, None]
    return (images + 1) * strength - 1


class BolidLatent(Adapter):
    """Two streams beside the text; a sample without references, or without a body, lacks its stream exactly."""

    kind = "bolid_latent"
    settings: BolidLatentSettings

    def __init__(self, settings: BolidLatentSettings, base: Base) -> None:
        super().__init__(settings, base)
        assert base.clip is not None
        width = base.context_width
        with seeded(settings.seed):
            self.body_vector = BodyVector(base.vae.channels, settings.body_width)
            self.body_proj = LinearProjection(settings.body_width, settings.tokens, width)
            self.reference_proj = LinearProjection(base.clip.pooled_width, settings.tokens, width)
        layers = install_streams(base, [REFERENCE, BODY])
        self.attention = nn.ModuleDict({str(index): layer.streams for index, layer in layers.items()})
        self._picture_losses = PictureLosses(settings, base)
        self.to(base.device)

    @classmethod
    def needs(cls, settings: AdapterSettings) -> Needs:
        return Needs(
            references=True, clip=True, clip_states=("pooled",), bodies=True, keypoints=True, text=("general",)
        )

    def groups(self) -> list[Group]:
        parts = {
            "body_vector": self.body_vector, "body_proj": self.body_proj, "reference_proj": self.reference_proj,
            "attention": self.attention,
        }  # fmt: skip
        return [Group(name, tuple(module.parameters())) for name, module in parts.items()]

    def conditions(self, batch: Batch) -> Conditions:
        text = batch.general()
        time_ids = batch.time_ids if self.base.has_time_ids else None
        there = batch.references.present.any(1) & ~batch.drop.identity
        scales = self.settings.scales
        streams = {
            REFERENCE: Stream(self._reference_tokens(batch), None, there, scales.get("reference", 1.0)),
            BODY: Stream(self.body_proj(self.vector(batch)), None, there & ~batch.drop.body, scales.get("body", 1.0)),
        }
        return Conditions(text.hidden, text.pooled, time_ids, streams)

    def losses(self, step: Step) -> dict[str, Term]:
        """Diffusion, and on the decoded x̂0 what is configured."""
        return self._picture_losses.terms(step, step.predict(self.conditions(step.batch)))

    def identity_embeddings(self, batch: Batch) -> Tensor:
        """Reference and body tokens, end to end: [B, 2·T·C]."""
        return torch.cat([self._reference_tokens(batch), self.body_proj(self.vector(batch))], dim=1).flatten(1)

    def vector(self, batch: Batch) -> Tensor:
        """c_body [B, 756]: what the references' bodies are to this adapter."""
        refs, settings = batch.references, self.settings
        assert refs.bodies is not None
        assert refs.keypoints is not None
        if refs.present.shape[1] > settings.max_references:
            most = settings.max_references
            raise InputError(f"adapter.max_references: {most}, but a sample has {refs.present.shape[1]} references")
        with torch.no_grad():
            images = refs.bodies.flatten(0, 1).float() / 127.5 - 1
            dimmed = weighted(images, refs.keypoints.flatten(0, 1).float(), settings.sigma, settings.floor)
            latents = self.base.vae.mean(dimmed).float().unflatten(0, refs.present.shape)
        vector: Tensor = self.body_vector(latents, refs.present)
        return vector

    def _reference_tokens(self, batch: Batch) -> Tensor:
        """Of the mean CLIP embedding of the references' faces: [B, T, C]."""
        clip, present = batch.references.clip, batch.references.present[..., None]
        assert clip is not None
        mean = (clip.pooled.float() * present).sum(1) / present.sum(1).clamp(min=1)
        tokens: Tensor = self.reference_proj(mean)
        return tokens
