"""PhotoMaker v2's face tokens: a face embedding becomes two tokens that look at CLIP's patch tokens.

Parameters are named as in the published files. Knows nothing of prompts.
Sources: Perceiver, arXiv 2103.03206; Flamingo's resampler, arXiv 2204.14198; shapes of the published weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from train.adapters.resampler import PerceiverAttention, feed_forward

HEAD_DIM = 128


class FacePerceiverResampler(nn.Module):
    """`depth` layers of attention and feed-forward, each with a skip."""

    def __init__(self, width: int, in_width: int, depth: int, head_dim: int, heads: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(in_width, width)
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, head_dim, heads), feed_forward(width)]) for _ in range(depth)
        )

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Latents [M, L, W] look at `tokens` [M, T, in] → [M, L, W]."""
        tokens = self.proj_in(tokens)
        layers: Any = self.layers
        for attention, mlp in layers:
            latents = latents + attention(tokens, latents)
            latents = latents + mlp(latents)
        out: Tensor = self.norm_out(self.proj_out(latents))
        return out


class QFormerPerceiver(nn.Module):
    """Face embedding → tokens, each plus what it finds in the picture."""

    def __init__(self, face_width: int, width: int, tokens: int, clip_width: int) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        hidden = 4 * face_width
        self.token_proj = nn.Sequential(
            nn.Linear(face_width, hidden), nn.GELU(), nn.Linear(hidden, tokens * width)
        )  # fmt: skip
        self.token_norm = nn.LayerNorm(width)
        head_dim = min(HEAD_DIM, width)
        self.perceiver_resampler = FacePerceiverResampler(width, clip_width, 4, head_dim, width // head_dim)

    def forward(self, faces: Tensor, last: Tensor) -> Tensor:
        """Face embeddings [M, E] and CLIP's last hidden states [M, T, D] → [M, tokens, W]."""
        tokens = self.token_norm(self.token_proj(faces).unflatten(-1, (self.tokens, self.width)))
        out: Tensor = tokens + self.perceiver_resampler(tokens, last)
        return out
