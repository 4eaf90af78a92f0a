"""PuLID's alignment losses: how far an inserted identity moves the UNet's features (arXiv 2404.16022, eq. 6 and 7).

Between the queries of the path with identity and those of the plain one, which begins from the same noise and reads
the same prompt. Each norm is divided by the square root of its number of entries, so that the weights mean the same at
every size and layer (the paper does not say). Knows no method and no UNet.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.adapters.attention import Watch


def alignment(with_identity: Watch, plain: Watch) -> tuple[Tensor, Tensor]:
    """Semantic and layout loss, float32 [B] each: mean over layers. Exactly 0 for equal queries, gradient included."""
    assert len(with_identity.queries) == len(plain.queries) > 0
    pairs = list(zip(plain.keys, with_identity.queries, plain.queries, strict=True))
    semantic = [distance(response(key, query), response(key, other)) for key, query, other in pairs]
    layout = [distance(query, other) for _, query, other in pairs]
    return torch.stack(semantic).mean(dim=0), torch.stack(layout).mean(dim=0)


def response(key: Tensor, query: Tensor) -> Tensor:
    """softmax(K·Qᵀ/√d)·Q [B, heads, T, d]: what each word of the prompt finds in the picture."""
    with torch.autocast(key.device.type, enabled=False):
        key, query = _exact(key), _exact(query)
        return functional.scaled_dot_product_attention(key, query, query)


def distance(states: Tensor, other: Tensor) -> Tensor:
    """‖a − b‖₂ / √n of each sample [B]."""
    difference = (_exact(states) - _exact(other)).flatten(1)
    return torch.linalg.vector_norm(difference, dim=1) / difference.shape[1] ** 0.5


def _exact(states: Tensor) -> Tensor:
    """At least float32."""
    return states if states.dtype == torch.float64 else states.float()
