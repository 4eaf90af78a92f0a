"""CLIP-T and CLIP-I: cosines of CLIP's embeddings of pictures and texts. Knows no prompt and no person.

CLIP-T is 100·cos (arXiv 2104.08718 without its factor and clamp), each picture alone; CLIP-I is cos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from shards.encoders import tiny
from shards.encoders.load import loaded
from train.evaluate.weights import on_device

AT_ONCE = 8
_SEED = 77


class Clip:
    """A CLIP model with its own preprocessing."""

    def __init__(self, model: Any, images: Any, tokenizer: Any, name: str) -> None:
        self.model, self._images, self._tokenizer = model, images, tokenizer
        self.name = name
        self._texts: dict[str, Tensor] = {}

    @torch.no_grad()
    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB → unit vectors [n, P], float32 on the CPU."""
        found = []
        for at in range(0, len(pictures), AT_ONCE):
            pixels = self._images(images=list(pictures[at : at + AT_ONCE]), return_tensors="pt").pixel_values
            found.append(self.model.get_image_features(pixels.to(self.model.device)).pooler_output.float().cpu())
        return functional.normalize(torch.cat(found), dim=-1)

    @torch.no_grad()
    def text(self, text: str) -> Tensor:
        """A unit vector [P]; a text that is too long loses its tail, never the end token."""
        if text not in self._texts:
            tokens = self._tokenizer([text], truncation=True, max_length=self.most_tokens, return_tensors="pt")
            tokens = {key: tokens[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
            vector = self.model.get_text_features(**tokens).pooler_output[0].float().cpu()
            self._texts[text] = functional.normalize(vector, dim=-1)
        return self._texts[text]

    def truncated(self, text: str) -> bool:
        """Whether the text has more tokens than CLIP reads."""
        return len(self._tokenizer([text], verbose=False).input_ids[0]) > self.most_tokens

    @property
    def most_tokens(self) -> int:
        return int(self.model.config.text_config.max_position_embeddings)


def load_clip_scores(name: str | None, revision: str | None = None) -> Clip:
    """By hub name or from a folder; None: `tiny`. Raises InputError."""
    if name is None:
        return tiny_clip()

    def part(kind: type[Any]) -> Any:
        return loaded(lambda: kind.from_pretrained(name, revision=revision), f"clip: {name}")

    model, images, tokenizer = (part(kind) for kind in (CLIPModel, CLIPImageProcessor, CLIPTokenizer))
    return Clip(on_device(model), images, tokenizer, name)


def tiny_clip() -> Clip:
    """CLIP's classes, random, 64 px, over tiny's tokenizer."""
    tokens = tiny.tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {name: getattr(tokens, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config={**shape, **special, "vocab_size": len(tokens)},
        vision_config={**shape, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    with tiny.seeded(_SEED):
        model = CLIPModel(config)
    images = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return Clip(on_device(model), images, tokens, "tiny")
