"""Body-ID encoder of BoLID: a pose and the look of a body → tokens of the UNet's context width.

Twelve keypoints become twelve tokens, the CLIP states of a body crop sixteen more. Source: BoLID (seed 000), which
gives no sizes; Fourier features as in NeRF (arXiv 2003.08934 eq. 4). Knows nothing of attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

JOINTS = 12
VISIBLE = 0.5
"""Least visibility of a keypoint that counts."""
_FREQUENCIES = 6
_PLACES = 6
"""x, y in the person's box; the box's centre and size in the picture."""


class PoseTokens(nn.Module):
    """Keypoints [B, 12, 3] (x, y in 0–1 of the picture, visibility) → tokens [B, 12, C].

    Of each: Fourier features of its place in the person's box and of the box's place in the picture, its
    visibility, and a learned embedding of the joint.
    """

    def __init__(self, context_width: int) -> None:
        super().__init__()
        width = _PLACES * 2 * _FREQUENCIES + 1
        self.joints = nn.Parameter(0.02 * torch.randn(JOINTS, context_width))
        self.mlp = nn.Sequential(nn.Linear(width, context_width), nn.GELU(), nn.Linear(context_width, context_width))
        self.norm = nn.LayerNorm(context_width)

    def forward(self, keypoints: Tensor) -> Tensor:
        places, visibility = keypoints[..., :2], keypoints[..., 2:]
        low, size = person_box(keypoints)
        inside = (places - low[:, None]) / size[:, None]
        box = torch.cat([low + size / 2, size], dim=-1)[:, None].expand(-1, JOINTS, -1)
        features = torch.cat([fourier(torch.cat([inside, box], dim=-1)), visibility], dim=-1)
        tokens: Tensor = self.norm(self.mlp(features) + self.joints)
        return tokens


def person_box(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Corner [B, 2] and size [B, 2] of the box round the visible keypoints; the whole picture where there are none.

    A side is at least 0.05 of the picture, so that one point has a box too.
    """
    places, seen = keypoints[..., :2], keypoints[..., 2:] >= VISIBLE
    low = places.masked_fill(~seen, math.inf).amin(1)
    high = places.masked_fill(~seen, -math.inf).amax(1)
    some = seen.any(1)
    low, high = torch.where(some, low, torch.zeros_like(low)), torch.where(some, high, torch.ones_like(high))
    return low, (high - low).clamp(min=0.05)


def fourier(values: Tensor) -> Tensor:
    """[..., D] → [..., D·2·F]: sin(2^k π v), cos(2^k π v) for k = 0 … F − 1."""
    steps = math.pi * 2.0 ** torch.arange(_FREQUENCIES, device=values.device)
    angles = values[..., None] * steps
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
