"""Networks that only measure: one table of their pinned weights and licences, and `tiny` ones that need no file.

A `tiny` network is random, from a fixed seed; what it measures is never called by the published metric's name.
"""

from __future__ import annotations

import importlib
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from crawl.errors import InputError
from filter.weights import ModelSpec, weights_path
from shards.encoders.load import frozen
from shards.encoders.tiny import seeded

INCEPTION = ModelSpec(
    name="inception-2015-12-05",
    file="weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    num_bytes=95_628_359,
    licence="Apache-2.0",
    input_size="299x299",
    source="github.com/toshas/torch-fidelity, from TensorFlow's",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
ALEXNET = ModelSpec(
    name="alexnet-owt",
    file="alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    num_bytes=244_408_911,
    licence="BSD-3-Clause",
    input_size="any",
    source="github.com/pytorch/vision",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
Module = TypeVar("Module", bound=nn.Module)
_SEED = 2015
_FEATURES, _CLASSES, _SIDE_PX, _LOGITS = 64, 16, 64, 40.0


class Features(nn.Module):
    """uint8 [B, 3, H, W] → what FID and KID compare [B, D] and the logits of IS [B, K]."""

    name: str
    """Of the weights."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Inception(Features):
    """torch-fidelity's InceptionV3, with TensorFlow's weights, resizing included."""

    def __init__(self, path: str, layer: str = "2048") -> None:
        super().__init__()
        fidelity = needed("torch_fidelity.feature_extractor_inceptionv3", "inception")
        wanted = [layer, "logits_unbiased"]
        self.model = fidelity.FeatureExtractorInceptionV3("inception", wanted, feature_extractor_weights_path=path)
        self.name = INCEPTION.version

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.model(images)
        return features, logits


class TinyFeatures(Features):
    """Three random convolutions and their means: tells pictures apart, and says nothing of how good they are."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(_SEED):
            sides = ((3, 16), (16, 32), (32, _FEATURES))
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in sides)
            self.logits = nn.Linear(_FEATURES, _CLASSES)
        self.name = "tiny"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.interpolate(images.float() / 127.5 - 1, (_SIDE_PX, _SIDE_PX), mode="bilinear", antialias=True)
        for layer in self.layers:
            x = functional.gelu(layer(x)) * 2
        features = x.mean((2, 3))
        return features, self.logits(features) * _LOGITS


def load_features(name: str) -> Features:
    """`tiny` or `tensorflow`. Raises InputError for missing weights or packages."""
    return on_device(TinyFeatures() if name == "tiny" else Inception(str(weights_path(INCEPTION))))


def on_device(module: Module) -> Module:
    """Frozen, on the GPU where there is one."""
    return frozen(module).to("cuda" if torch.cuda.is_available() else "cpu")


def load_lpips(name: str) -> nn.Module:
    """LPIPS (arXiv 1801.03924) of torchmetrics with its own linear weights: on AlexNet, or on a `tiny` random one."""
    lpips = needed("torchmetrics.functional.image.lpips", "lpips")
    with seeded(_SEED):
        net: nn.Module = lpips._LPIPS(net="squeeze" if name == "tiny" else "alex", pnet_rand=True)
    if name == "alex":  # the public class downloads its backbone past our cache: its layers are AlexNet's by number
        state = torch.load(weights_path(ALEXNET), weights_only=True)
        for slot, layer in net.net.named_modules():  # type: ignore[union-attr]
            if isinstance(layer, nn.Conv2d):
                number = slot.rsplit(".", 1)[1]
                layer.load_state_dict({key: state[f"features.{number}.{key}"] for key in ("weight", "bias")})
    return on_device(net)


def needed(module: str, field: str) -> Any:
    """A metric library's module. Raises InputError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0].replace("_", "-")
        raise InputError(f"{field}: {package} is not installed: pip install 'personae[evaluate]'") from None
