"""FID, KID and IS of a set of pictures, by torch-fidelity's own functions on features of one network.

FID is biased by how many pictures there are, so that number stands beside it, and few pictures give none to headline.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from train.evaluate.weights import Features, needed

AT_ONCE = 16
KID_SUBSET, KID_SUBSETS, IS_SPLITS = 1000, 100, 10
_LEAST = 4
"""Pictures on each side for any number at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a network says of n pictures."""

    features: Tensor
    """[n, D]."""
    logits: Tensor
    """[n, K]."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a whole set. `spread`: standard deviation over KID's subsets, or over IS's splits."""

    value: float
    spread: float | None
    headline: bool
    note: str


@torch.no_grad()
def told(network: Features, pictures: Iterable[Image.Image]) -> Told:
    """RGB pictures of one size, n ≥ 1, as many in memory as the network sees at once."""
    device, left, parts = next(network.parameters()).device, iter(pictures), []
    while part := list(itertools.islice(left, AT_ONCE)):
        pixels = [torch.from_numpy(np.asarray(picture, np.uint8).transpose(2, 0, 1).copy()) for picture in part]
        parts.append(network(torch.stack(pixels).to(device)))
    features, logits = (torch.cat(list(part)).float().cpu() for part in zip(*parts, strict=True))
    return Told(features, logits)


def numbers(generated: Told, real: Told) -> dict[str, Number]:
    """`fid`, `kid`, `is`; nothing for fewer than four pictures on a side."""
    fid, kid, score = (needed(f"torch_fidelity.metric_{name}", "inception") for name in ("fid", "kid", "isc"))
    count, wanted = min(len(generated.features), len(real.features)), generated.features.shape[1]
    if count < _LEAST:
        return {}
    n = f"{len(generated.features)} generated, {len(real.features)} real"
    few = count < wanted
    rule = f"; fewer than {wanted} on a side: the covariance has no full rank, not to be quoted" if few else ""
    statistics = [fid.fid_features_to_statistics(one.features) for one in (generated, real)]
    distance = fid.fid_statistics_to_metric(*statistics, verbose=False)[fid.KEY_METRIC_FID]
    subset = min(KID_SUBSET, max(_LEAST // 2, count // 2))
    kernel = kid.kid_features_to_metric(
        generated.features, real.features, kid_subsets=KID_SUBSETS, kid_subset_size=subset, verbose=False
    )
    splits = min(IS_SPLITS, len(generated.logits))
    inception = score.isc_features_to_metric(generated.logits, splits)
    return {
        "fid": Number(distance, None, not few, n + rule),
        "kid": Number(
            kernel[kid.KEY_METRIC_KID_MEAN],
            kernel[kid.KEY_METRIC_KID_STD],
            True,
            f"{n}; {KID_SUBSETS} subsets of {subset}",
        ),
        "is": Number(
            inception[score.KEY_METRIC_ISC_MEAN], inception[score.KEY_METRIC_ISC_STD], not few, f"{n}; {splits} splits"
        ),
    }
