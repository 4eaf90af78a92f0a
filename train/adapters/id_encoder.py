"""PhotoMaker's id encoder: CLIP states (v2: and a face embedding) of reference photos → id embeddings.

Works on a flat list of M photos; which sample they belong to is the adapter's business. Parameters are named as in
the published files, all of them in `published()`. Knows nothing of prompts and of the UNet.
Source: PhotoMaker, arXiv 2312.04461; shapes of the published v1 and v2 weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from crawl.errors import InputError
from shards.encoders.pictures import clip_pixels
from shards.encoders.tiny import seeded
from train.adapters.fuse import FuseModule
from train.adapters.perceiver import QFormerPerceiver
from train.adapters.published import check
from train.adapters.settings import PhotoMakerSettings

TOKENS = {"v1": 1, "v2": 2}
"""Id embeddings a reference."""
_TOWER = "vision_model."
_OURS = ("layer_norm.", "visual_projection_3.")
"""Of the thesis' other ways in: no published file has them."""
_POSITIONS = "vision_model.embeddings.position_ids"
"""A buffer that older versions of transformers saved."""


class IdEncoder(nn.Module):
    """The tower is the base's, shared and frozen, or the encoder's own (`owns_tower`) and among its weights."""

    def __init__(
        self,
        clip: CLIPVisionModelWithProjection,
        text_widths: Sequence[int],
        settings: PhotoMakerSettings,
        face_width: int | None = None,
        identity_stream: bool = False,
    ) -> None:
        """`text_widths`: hidden size of each text encoder; `identity_stream`: tokens for an attention are wanted.

        Raises InputError for a tower whose projection is not as wide as the first text encoder.
        """
        super().__init__()
        self.settings = settings
        width, depth = sum(text_widths), int(clip.config.hidden_size)
        if clip.config.projection_dim != text_widths[0]:
            raise InputError(
                f"base.clip: its projection has {clip.config.projection_dim} values, PhotoMaker needs "
                f"{text_widths[0]}, the width of the first text encoder (openai/clip-vit-large-patch14 has 768)"
            )
        self.image_size_px = int(clip.config.image_size)
        self._shared = [clip.vision_model]  # in a list: not a sub-module
        if owns_tower(settings):
            self.vision_model = deepcopy(clip.vision_model).float()
        with seeded(settings.seed):
            self.visual_projection = nn.Linear(depth, text_widths[0], bias=False)
            if len(text_widths) == 2:
                self.visual_projection_2 = nn.Linear(depth, text_widths[1], bias=False)
            if settings.identity_path == "both":
                self.visual_projection_3 = nn.Linear(depth, text_widths[-1], bias=False)
            if settings.identity_path != "attention":
                self.fuse_module = FuseModule(width)
            if settings.version == "v2":
                assert face_width is not None
                self.qformer_perceiver = QFormerPerceiver(face_width, width, TOKENS["v2"], depth)
            if identity_stream:
                self.layer_norm = nn.LayerNorm(width)
        with torch.no_grad():
            self.visual_projection.weight.copy_(clip.visual_projection.weight)
        self._begin_second_head()

    @property
    def tower(self) -> nn.Module:
        tower: nn.Module = self.vision_model if owns_tower(self.settings) else self._shared[0]
        return tower

    def look(self, faces: Tensor) -> Tensor:
        """Face crops uint8 [M, 3, R, R] → the tower's last hidden states [M, T, D], before its final norm."""
        some = faces if len(faces) else faces.new_zeros(1, *faces.shape[1:])  # the tower refuses a batch of none
        pixels = clip_pixels(some, self.image_size_px).to(next(self.tower.parameters()).dtype)
        last: Tensor = self.tower(pixel_values=pixels).last_hidden_state[: len(faces)]
        return last

    def embeddings(self, last: Tensor, faces: Tensor | None = None) -> Tensor:
        """Last hidden states [M, T, D], v2: unit face embeddings [M, E] → id embeddings [M, tokens, C]."""
        if self.settings.version == "v2":
            assert faces is not None
            found: Tensor = self.qformer_perceiver(faces * self.settings.face_norm, last.float())
            return found
        return self._projected(last, self._heads())

    def stream_tokens(self, last: Tensor, embeddings: Tensor) -> Tensor:
        """Tokens [M, tokens, C] for the identity's own attention: LN of the id embeddings (thesis, 5.2.1).

        With two paths the last projection has a copy of its own for this one (5.2.2).
        """
        if self.settings.identity_path == "both":
            embeddings = self._projected(last, [*self._heads()[:-1], self.visual_projection_3])
        out: Tensor = self.layer_norm(embeddings)
        return out

    def published(self) -> dict[str, Tensor]:
        """All weights under the names of the published files, the tower's too."""
        return {f"{_TOWER}{key}": value for key, value in self.tower.state_dict().items()} | self.state_dict()

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], source: str) -> None:
        """The inverse of `published`; parts that the file has and these settings do not use are left out.

        Raises InputError naming `source` and the key that is missing, has another shape, or is of another tower.
        """
        version = "v2" if any(key.startswith("qformer_perceiver.") for key in state) else "v1"
        if version != self.settings.version:
            raise InputError(
                f"{source}: weights of PhotoMaker {version}, but adapter.version is {self.settings.version}"
            )
        own = {key: value for key, value in self.published().items() if not key.startswith(_OURS)}
        unused = {key for key in state.keys() - own.keys() if key.startswith(("fuse_module.", _POSITIONS))}
        given = {key: value for key, value in state.items() if key not in unused}
        check(given, own, source, "id_encoder.")
        for key, value in given.items():
            if owns_tower(self.settings) or not key.startswith(_TOWER):
                own[key].copy_(value)
            elif not torch.equal(own[key], value.to(own[key])):
                raise InputError(f"{source}: id_encoder.{key}: another tower than base.clip: set adapter.own_clip")
        self._begin_second_head()

    def used_tower(self) -> list[nn.Module]:
        """The tower's parts that embeddings depend on: v2 looks before the final norm."""
        unused = {"post_layernorm"} if self.settings.version == "v2" else set()
        return [module for name, module in self.tower.named_children() if name not in unused]

    def projections(self) -> list[nn.Module]:
        """What turns CLIP states into id embeddings. v2's files carry v1's projections along, unused."""
        if self.settings.version == "v2":
            return [self.qformer_perceiver]
        return self._heads() + ([self.visual_projection_3] if hasattr(self, "visual_projection_3") else [])

    def fuses(self) -> list[nn.Module]:
        return [self.fuse_module] if hasattr(self, "fuse_module") else []

    def norms(self) -> list[nn.Module]:
        return [self.layer_norm] if hasattr(self, "layer_norm") else []

    def _heads(self) -> list[nn.Module]:
        names = ("visual_projection", "visual_projection_2")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def _projected(self, last: Tensor, heads: Sequence[nn.Module]) -> Tensor:
        pooled = self.tower.post_layernorm(last[:, 0].to(next(self.tower.parameters()).dtype)).float()  # type: ignore[operator]
        return torch.cat([head(pooled) for head in heads], dim=-1)[:, None]

    def _begin_second_head(self) -> None:
        if self.settings.identity_path == "both":
            self.visual_projection_3.load_state_dict(self._heads()[-1].state_dict())


def owns_tower(settings: PhotoMakerSettings) -> bool:
    """Whether the tower is the adapter's, because it is trained or because published weights bring another."""
    return settings.train_clip or settings.own_clip
