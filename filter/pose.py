"""The pose stage: 12 body keypoints of the named person, for every verified photo.

Between verify and crop, and on the whole photo: another pose model redoes neither scan nor verify, and the model sees
a body that the crop may cut. A photo without a pose goes on; the crop stage says why it has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image as PILImage

from crawl.decode import decode_picture
from crawl.output import Output
from crawl.photo import Rejection
from crawl.stage import Stage, Tick
from crawl.store import Store
from crawl.tables import Entry, Tables, fingerprint
from filter.config import FilterRun
from filter.decide import Verified
from filter.faces import Face
from filter.keypoints import STAGE, Pose, PoseEstimator
from filter.models import load_pose, pose_names
from filter.scan import Scanned

VERSION = 1
UPSTREAM = ("scan", "verify")
Looked = tuple[str, PILImage.Image | Rejection, Face]
"""A photo's key, decoded or why it is not, the verified face."""


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
        self._tables.write(self.name, bucket, Pose, self._poses(bucket, tick), fingerprint)

    def _poses(self, bucket: int, tick: Tick) -> Iterator[Entry[Pose]]:
        batch: list[Looked] = []
        for looked in self._photos(bucket):
            batch.append(looked)
            if len(batch) == self._batch_size:
                yield from self._entries(batch)
                tick(self.name, len(batch))
                batch = []
        yield from self._entries(batch)
        tick(self.name, len(batch))

    def _photos(self, bucket: int) -> Iterator[Looked]:
        verified = {e.key: e.row for e in self._tables.read("verify", bucket, Verified) if e.row is not None}
        for entry in self._tables.read("scan", bucket, Scanned):
            if entry.row is not None and entry.key in verified:
                face = entry.row.faces[verified[entry.key].face_index]
                yield entry.key, decode_picture(self._store.read(entry.row.photo)), face

    def _entries(self, batch: list[Looked]) -> Iterator[Entry[Pose]]:
        whole = [(key, photo, face) for key, photo, face in batch if not isinstance(photo, Rejection)]
        answers = dict(zip((key for key, _, _ in whole), self._answers(whole), strict=True))
        for key, photo, _ in batch:
            answer = photo if isinstance(photo, Rejection) else answers[key]
            yield Entry(key, None, answer) if isinstance(answer, Rejection) else Entry(key, answer)

    def _answers(self, batch: list[tuple[str, PILImage.Image, Face]]) -> list[Pose | Rejection]:
        """A batch that fails is asked for again one by one, so that only the photo at fault has no pose."""
        if not batch:
            return []
        estimator = self._loaded()
        try:
            return estimator.estimate([photo for _, photo, _ in batch], [face for _, _, face in batch])
        except (ValueError, RuntimeError, ArithmeticError, LookupError) as error:
            if len(batch) == 1:
                return [Rejection(self.name, "error", detail=f"{type(error).__name__}: {error}")]
        return [answer for one in batch for answer in self._answers([one])]

    def _loaded(self) -> PoseEstimator:
        if self._estimator is None:
            self._estimator = load_pose(self._config)
        return self._estimator
