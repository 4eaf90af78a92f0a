"""Face detectors and embedders, one family a file; `filter/models.py` chooses and loads them.

Here only what every embedder ends with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from filter.faces import Embeddings


def unit_rows(rows: Sequence[npt.ArrayLike], dimensions: int, model: str) -> Embeddings:
    """Rows scaled to unit length; none given: an empty array of the same width.

    A row that has no direction is the model's fault, not the photo's: AssertionError naming the model.
    """
    vectors = np.asarray(rows, np.float64).reshape(len(rows), dimensions)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.isfinite(lengths).all(), f"{model}: an embedding is not finite"
    assert (lengths > 0).all(), f"{model}: an embedding is zero"
    units: Embeddings = (vectors / lengths).astype(np.float32)
    return units
