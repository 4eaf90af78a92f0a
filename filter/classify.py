"""The classify stage: what image classifiers say of every verified photo, against the run's thresholds.

Between verify and crop, on the whole photo. A photo over a threshold ends here, by the classifier's own name
(`watermark`); the probabilities of the others go on with them. Off unless a classifier is configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image as PILImage

from crawl.output import Output
from crawl.photo import Rejection
from crawl.stage import Stage, Tick
from crawl.store import Store
from crawl.tables import Tables, fingerprint
from filter.backends.classifier import Classifier
from filter.config import ClassifierConfig, FilterRun
from filter.faces import Face
from filter.models import classifier_names
from filter.portrait import ClassScore
from filter.verified import UPSTREAM, Asking, verified_photos

STAGE = "classify"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Classified:
    """A photo that every classifier lets pass."""

    scores: tuple[ClassScore, ...]


def classify_stages(run: FilterRun, output: Output) -> list[Stage]:
    """The stage, when there is a classifier."""
    return [ClassifyStage(run, output)] if run.filter.classifiers else []


class ClassifyStage:
    """`tables/classify`: Entry[Classified] for every verified photo."""

    name = STAGE

    def __init__(self, run: FilterRun, output: Output) -> None:
        self._config = run.filter
        self._tables = Tables(output)
        self._store = Store(output)
        self._classifiers: list[Classifier] = []

    def fingerprint(self, bucket: int) -> str:
        """With the batch size: a GPU's last digits depend on it."""
        config = self._config
        settings = [c.model_dump(exclude={"model", "revision"}) for c in config.classifiers]
        upstream = [self._tables.fingerprint(stage, bucket) for stage in UPSTREAM]
        return fingerprint(
            self.name, VERSION, classifier_names(config), settings, config.classifier_batch_size, upstream
        )

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        asking = Asking(self.name, self._config.classifier_batch_size, self._ask)
        photos = verified_photos(self._tables, self._store, bucket)
        self._tables.write(self.name, bucket, Classified, asking.entries(photos, tick), fingerprint)

    def _ask(self, photos: Sequence[PILImage.Image], faces: Sequence[Face]) -> list[Classified | Rejection]:
        if not self._classifiers:
            self._classifiers = [Classifier(config) for config in self._config.classifiers]
        columns = [classifier.probabilities(photos) for classifier in self._classifiers]
        return [judged(self._config.classifiers, row) for row in zip(*columns, strict=True)]


def judged(configs: Sequence[ClassifierConfig], probabilities: Sequence[float]) -> Classified | Rejection:
    """The first threshold that a photo misses, or all that is known of it."""
    for config, value in zip(configs, probabilities, strict=True):
        for least, most in ((config.min_probability, None), (None, config.max_probability)):
            if (least is not None and value < least) or (most is not None and value > most):
                return Rejection(STAGE, config.name, value, least if most is None else most)
    return Classified(tuple(ClassScore(c.name, p) for c, p in zip(configs, probabilities, strict=True)))
