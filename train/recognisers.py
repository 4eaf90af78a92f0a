"""Frozen face recognisers that gradients pass through: the one table, and how each wants its picture.

The same networks as the embedders of filter.models, where these are ONNX: their embeddings can be compared with those
of the shards. Knows no loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from crawl.errors import InputError
from filter.align import ARCFACE_SIZE_PX
from filter.config import FilterConfig
from filter.models import MOBILEFACENET, embedder_file
from filter.weights import weights_path
from shards.encoders.config import BaseConfig
from shards.encoders.load import frozen
from shards.encoders.tiny import seeded
from train.onnx_network import OnnxNetwork

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RANDOM_WIDTH = 64


class Recogniser(nn.Module):
    """Aligned faces → unit vectors, in float32 whatever the run's precision."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], knows_people: bool) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.knows_people = knows_people
        """Its vectors are those of the shards' face embeddings; else they must be made of the references' pixels."""

    def forward(self, faces: Tensor) -> Tensor:
        """RGB float [B, 3, 112, 112] in [0, 1], on ArcFace's template → [B, E], unit length."""
        with torch.autocast(faces.device.type, enabled=False):
            found: Tensor = self.network((faces.float() - self.get_buffer("mean")) / self.get_buffer("std"))
            return functional.normalize(found, dim=-1)


class RandomNetwork(nn.Module):
    """Untrained: it knows no face. For the tiny base and for tests, where only the way of gradients is looked at."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with seeded(seed + 7):
            self.layers = nn.Sequential(
                nn.AvgPool2d(4), nn.Conv2d(3, 16, 3, 2, 1), nn.Tanh(), nn.Conv2d(16, 32, 3, 2, 1), nn.Tanh(),
                nn.Flatten(), nn.Linear(32 * (ARCFACE_SIZE_PX // 16) ** 2, _RANDOM_WIDTH),
            )  # fmt: skip

    def forward(self, faces: Tensor) -> Tensor:
        return self.layers(faces)


def load_recogniser(kind: str, base: BaseConfig) -> Recogniser:
    """Frozen, in eval mode. Raises InputError for missing weights, and for `embedded`, which is no such network."""
    if kind not in RECOGNISERS:
        raise InputError(f"base.face: {kind}: gradients cannot pass through it: take {' or '.join(RECOGNISERS)}")
    return frozen(RECOGNISERS[kind](base))


def _open(base: BaseConfig) -> Recogniser:
    return Recogniser(OnnxNetwork(weights_path(MOBILEFACENET)), _IMAGENET_MEAN, _IMAGENET_STD, True)


def _insightface(base: BaseConfig) -> Recogniser:
    """Packs that were converted from MXNet subtract and divide inside the network."""
    config = FilterConfig(
        embedder="insightface", insightface_pack=base.insightface_pack, accept_licence=base.accept_licence
    )
    network = OnnxNetwork(embedder_file(config))
    inside = {"Sub", "Mul"} <= set(network.operations[:8])
    return Recogniser(network, (0.0,) if inside else (0.5,), (1 / 255,) if inside else (0.5,), True)


def _random(base: BaseConfig) -> Recogniser:
    return Recogniser(RandomNetwork(base.seed), (0.5,), (0.5,), False)


RECOGNISERS: dict[str, Callable[[BaseConfig], Recogniser]] = {
    "open": _open, "insightface": _insightface, "random": _random,
}  # fmt: skip
"""`open`: MobileFaceNet-ArcFace, Apache-2.0; `insightface`: a pack's ArcFace, non-commercial; `random`: untrained."""
