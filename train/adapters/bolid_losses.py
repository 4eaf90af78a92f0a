"""BoLID's losses on a decoded picture: where its joints are, and what CLIP says of it beside the prompt.

Both networks are frozen, and gradients pass through them to the picture. Keypoints are the soft-argmax of heatmaps
(arXiv 1711.08229 eq. 3). Source: BoLID (seed 000): L_id = Σ₁²‖p_gen − p_ref‖², L_CLIP = 1 − cos; weights ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)

from crawl.errors import InputError, one_line
from shards.encoders import tiny
from shards.encoders.pictures import CLIP_MEAN, CLIP_STD
from shards.encoders.text import MAX_TOKENS
from train.adapters.body_encoder import VISIBLE, person_box

TINY = "tiny"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
JOINTS_OF_COCO = slice(5, 17)
MARGIN = 0.25
"""Round the person's box, of its side, on each side: where the network looks."""
SHOULDERS, HIPS = (0, 1), (6, 7)
_LEAST_TORSO = 0.1
"""Of the picture's side: shorter ones are foreshortened, or half outside."""


class PoseNetwork(nn.Module):
    """A frozen ViTPose: pictures in [−1, 1] and boxes → our 12 keypoints in 0–1 of the picture, differentiable."""

    def __init__(self, name: str, device: torch.device, revision: str | None = None) -> None:
        super().__init__()
        model = _tiny_pose() if name == TINY else _loaded(VitPoseForPoseEstimation, name, revision)
        self.model = _frozen(model, device)
        self._hw: tuple[int, int] = tuple(self.model.config.backbone_config.image_size)

    def forward(self, images: Tensor, low: Tensor, size: Tensor) -> Tensor:
        """Images [B, 3, H, W]; box corner and size [B, 2] in 0–1 of the picture → [B, 12, 2]."""
        height, width = self._hw
        centre, half = low + size / 2, (0.5 + MARGIN) * size
        half = torch.maximum(half, half.flip(-1) * half.new_tensor([width / height, height / width]))
        inputs = _normalised(cut(images, centre, half, self._hw), IMAGENET_MEAN, IMAGENET_STD)
        heatmaps = self.model(inputs).heatmaps[:, JOINTS_OF_COCO]
        return centre[:, None] + half[:, None] * (2 * soft_argmax(heatmaps.float()) - 1)


def soft_argmax(heatmaps: Tensor, sharpness: float = 20.0) -> Tensor:
    """Expected place [B, J, 2] (x, y in 0–1, pixel centres) under softmax(`sharpness` · heatmap) of [B, J, h, w]."""
    height, width = heatmaps.shape[-2:]
    chances = (sharpness * heatmaps).flatten(-2).softmax(-1).unflatten(-1, (height, width))
    x = (torch.arange(width, device=heatmaps.device) + 0.5) / width
    y = (torch.arange(height, device=heatmaps.device) + 0.5) / height
    return torch.stack([(chances.sum(-2) * x).sum(-1), (chances.sum(-1) * y).sum(-1)], dim=-1)


def cut(images: Tensor, centre: Tensor, half: Tensor, hw: tuple[int, int]) -> Tensor:
    """The box of each image [B, 3, h, w], bilinear; grey outside the picture. Centre and half size in 0–1 [B, 2]."""
    height, width = hw
    x = (torch.arange(width, device=images.device) + 0.5) / width * 2 - 1
    y = (torch.arange(height, device=images.device) + 0.5) / height * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    places = centre[:, None, None] + half[:, None, None] * grid
    return functional.grid_sample(images, 2 * places - 1, align_corners=False)


def keypoint_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """[B]: mean over the visible joints of ‖p_gen − p_ref‖² / torso²; 0 where none is visible.

    `found` [B, 12, 2], `wanted` [B, 12, 3] in 0–1 of the picture. The torso is that of `wanted`, from between the
    shoulders to between the hips, where all four are visible; else half the person's box.
    """
    places, seen = wanted[..., :2], wanted[..., 2] >= VISIBLE
    squared = (found - places).square().sum(-1) / torso(wanted)[:, None].square()
    return (squared * seen).sum(1) / seen.sum(1).clamp(min=1)


def torso(keypoints: Tensor) -> Tensor:
    """Its length [B], in sides of the picture, 0.1 at least."""
    places, seen = keypoints[..., :2], keypoints[..., 2] >= VISIBLE
    length = (places[:, SHOULDERS].mean(1) - places[:, HIPS].mean(1)).norm(dim=-1)
    half_box = person_box(keypoints)[1].amax(-1) / 2
    return torch.where(seen[:, (*SHOULDERS, *HIPS)].all(1), length, half_box).clamp(min=_LEAST_TORSO)


class ClipScore(nn.Module):
    """A frozen CLIP with both towers."""

    def __init__(self, name: str, device: torch.device, revision: str | None = None) -> None:
        super().__init__()
        self._tokenizer: Any = tiny.tokenizer() if name == TINY else _tokenizer(name, revision)
        model = _tiny_clip(len(self._tokenizer)) if name == TINY else _loaded(CLIPModel, name, revision)
        self.model = _frozen(model, device)

    def loss(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """1 − cos(CLIP(picture), CLIP(prompt)) [B], images in [−1, 1]."""
        side = int(self.model.config.vision_config.image_size)
        resized = functional.interpolate(images, (side, side), mode="bicubic", align_corners=False, antialias=True)
        pictures = self.model.get_image_features(pixel_values=_normalised(resized, CLIP_MEAN, CLIP_STD))
        with torch.no_grad():
            asked = self._tokenizer(
                list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            words = self.model.get_text_features(asked.input_ids.to(images.device))
        return 1 - functional.cosine_similarity(_features(pictures), _features(words))


def _features(output: Any) -> Tensor:
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found.float()


def _normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[−1, 1] → what a network was trained with."""
    shift, scale = (images.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return ((images.clamp(-1, 1) + 1) / 2 - shift) / scale


def _frozen(model: nn.Module, device: torch.device) -> Any:
    return model.eval().requires_grad_(False).to(device)


def _loaded(cls: Any, name: str, revision: str | None) -> nn.Module:
    try:
        found: nn.Module = cls.from_pretrained(name, revision=revision, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"adapter: {name}: cannot be loaded: {one_line(error)[:300]}") from None
    return found


def _tokenizer(name: str, revision: str | None) -> Any:
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise InputError(f"adapter.clip_model: {name}: no tokenizer: {one_line(error)[:300]}") from None


def _tiny_pose() -> nn.Module:
    with tiny.seeded(0):
        backbone = VitPoseBackboneConfig(
            image_size=[64, 48], patch_size=[16, 16], hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            out_indices=[2],
        )  # fmt: skip
        config = VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=True, initializer_range=0.3)
        return VitPoseForPoseEstimation(config)


def _tiny_clip(vocabulary: int) -> nn.Module:
    with tiny.seeded(0):
        size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
        config = CLIPConfig(
            text_config={**size, **ends, "vocab_size": vocabulary},
            vision_config={**size, "image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
        return CLIPModel(config)
