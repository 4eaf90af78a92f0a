"""Image classifiers of transformers, by name: photos in, the probability of some of their labels out.

Watermarks, nudity, age groups: whatever a published classifier tells apart. Knows nothing of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image as PILImage

from crawl.errors import InputError, one_line
from filter.backends.hub import version
from filter.config import ClassifierConfig


class Classifier:
    """In float32, on a GPU when there is one. Raises InputError naming the field."""

    def __init__(self, config: ClassifierConfig) -> None:
        self._torch, self._processor, self._model = _loaded(config)
        known = {str(label).lower(): int(index) for index, label in self._model.config.id2label.items()}
        unknown = [label for label in config.labels if label.lower() not in known]
        if unknown:
            raise InputError(
                f"filter.classifiers: {config.name}: labels: {config.model} has no {unknown[0]!r}, "
                f"it has {', '.join(sorted(known))[:200]}"
            )
        self._indices = [known[label.lower()] for label in config.labels]

    def probabilities(self, photos: Sequence[PILImage.Image]) -> list[float]:
        """Of any of the labels, one a photo, 0–1: a softmax's sum, or the most of labels that may hold together."""
        inputs = self._processor(images=list(photos), return_tensors="pt").to(self._model.device)
        with self._torch.inference_mode():
            logits = self._model(**inputs).logits.float()
        if self._model.config.problem_type == "multi_label_classification":
            chosen = logits.sigmoid()[:, self._indices].amax(-1)
        else:
            chosen = logits.softmax(-1)[:, self._indices].sum(-1)
        return [min(max(float(p), 0.0), 1.0) for p in chosen.tolist()]


def classifier_version(config: ClassifierConfig) -> str:
    """NAME@REVISION, as recorded in each row."""
    return version(config.model, config.revision)


def _loaded(config: ClassifierConfig) -> tuple[Any, Any, Any]:
    """torch, the image processor, and the network where it is to run."""
    try:
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise InputError(f"filter.classifiers: {one_line(error)}: pip install 'personae[vitpose]'") from None
    try:
        processor = AutoImageProcessor.from_pretrained(config.model, revision=config.revision)
        network = AutoModelForImageClassification.from_pretrained(
            config.model, revision=config.revision, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        what = f"filter.classifiers: {config.name}: {config.model}"
        raise InputError(f"{what}: cannot be loaded: {one_line(error)[:300]}") from None
    return torch, processor, network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
