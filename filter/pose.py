"""The pose stage: 12 body keypoints of the named person, for every verified photo.

Between verify and crop, and on the whole photo: another pose model redoes neither scan nor verify, and the model sees
a body that the crop may cut. A photo without a pose goes on; the crop stage says why it has none.
"""

from __future__ import annotations

from crawl.output import Output
from crawl.stage import Stage, Tick
from crawl.store import Store
from crawl.tables import Tables, fingerprint
from filter.config import FilterRun
from filter.keypoints import STAGE, Pose, PoseEstimator
from filter.models import load_pose, pose_names
from filter.verified import UPSTREAM, Asking, verified_photos

VERSION = 1


def pose_stages(run: FilterRun, output: Output) -> list[Stage]:
    """The stage, when a pose model is configured."""
    return [] if run.filter.pose == "none" else [PoseStage(run, output)]


class PoseStage:
    """`tables/pose`: Entry[Pose] for every verified photo, with a rejection where no body was found."""

    name = STAGE

    def __init__(self, run: FilterRun, output: Output) -> None:
        self._config = run.filter
        self._batch_size = run.filter.pose_batch_size if run.filter.pose == "vitpose" else 1
        self._tables = Tables(output)
        self._store = Store(output)
        self._estimator: PoseEstimator | None = None

    def fingerprint(self, bucket: int) -> str:
        """With the batch size: a GPU's last digits depend on it."""
        upstream = [self._tables.fingerprint(stage, bucket) for stage in UPSTREAM]
        return fingerprint(self.name, VERSION, pose_names(self._config), self._batch_size, upstream)

    def run(self, bucket: int, fingerprint: str, tick: Tick) -> None:
        asking = Asking(self.name, self._batch_size, lambda photos, faces: self._loaded().estimate(photos, faces))
        photos = verified_photos(self._tables, self._store, bucket)
        self._tables.write(self.name, bucket, Pose, asking.entries(photos, tick), fingerprint)

    def _loaded(self) -> PoseEstimator:
        if self._estimator is None:
            self._estimator = load_pose(self._config)
        return self._estimator
