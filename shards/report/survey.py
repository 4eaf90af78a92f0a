"""Distributions over samples: face size, yaw, resolution, what of the body is seen, length of captions.

Fed one sample's metadata at a time; what a sample does not tell is left out of that distribution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from caption.figures import BINS, PARTS, CaptionFigures
from caption.framing import face_frame
from filter.keypoints import NAMES, VISIBLE
from shards.config import BuildRun
from shards.format.tar import ShardError
from shards.report.charts import Chart, Series, histogram
from shards.report.folder import Folder

SPREAD = 2_000
"""Samples that stand for all of a dataset too large to look at."""


def spread(folder: Folder) -> Survey:
    """Of samples at even distances over the shards; a tar that cannot be read is passed over."""
    survey, samples = Survey(), len(folder.dataset)
    for position in range(0, samples, max(1, -(-samples // SPREAD))):
        with contextlib.suppress(ShardError, OSError):
            survey.add(folder.dataset.sample(folder.dataset.index.keys[position].decode()).metadata)
    return survey


class Survey:
    """Measures of the samples seen so far."""

    def __init__(self) -> None:
        self.samples = 0
        self._face_px: list[float] = []
        self._short_px: list[float] = []
        self._yaw_deg: list[float] = []
        self._scores: list[float] = []
        self._seen = [0] * len(NAMES)
        self._posed = 0
        self._words: dict[str, list[float]] = {part: [] for part in PARTS}

    def add(self, about: dict[str, Any]) -> None:
        """One sample's KEY.json."""
        self.samples += 1
        for measure in (self._sizes, self._head, self._body, self._caption):
            try:
                measure(about)
            except (KeyError, TypeError, ValueError, ArithmeticError):
                continue  # this sample does not tell

    def charts(self, run: BuildRun | None, figures: CaptionFigures | None) -> Iterator[Chart]:
        """Those that there are numbers for."""
        least = run.filter if run else None
        faces = histogram(
            "face-size", "Face size", self._face_px, "shorter side of the face box, px of the photo",
            least.min_face_px if least else None, f"at least {least.min_face_px} px" if least else "",
        )  # fmt: skip
        sides = histogram(
            "resolution", "Resolution", self._short_px, "short side of the photo, px",
            least.min_side_px if least else None, f"at least {least.min_side_px} px" if least else "",
        )  # fmt: skip
        yaw = histogram(
            "yaw", "Head yaw", self._yaw_deg, "degrees; above 0 towards the viewer’s right",
            note="Estimated from the five landmarks, not measured by a head-pose model.",
        )  # fmt: skip
        score = histogram("scores", "Cosine to the person’s centre", self._scores, "cosine, all people")
        yield from (c for c in (faces, sides, yaw, score, self._visibility(), self._lengths(figures)) if c is not None)

    def _sizes(self, about: dict[str, Any]) -> None:
        left, _, right, _ = about["crop_xyxy_px"]
        scale = (right - left) / about["size_px"]
        x0, y0, x1, y1 = about["face_xyxy_px"]
        self._scores.append(float(about["identity_score"]))
        self._short_px.append(float(min(about["original_size"])))
        self._face_px.append(min(x1 - x0, y1 - y0) * scale)

    def _head(self, about: dict[str, Any]) -> None:
        landmarks = tuple((float(x), float(y)) for x, y in about["landmarks_px"])
        self._yaw_deg.append(face_frame(landmarks, about["size_px"]).yaw_deg)

    def _body(self, about: dict[str, Any]) -> None:
        scores = [float(s) for s in about["keypoint_scores"]]
        if len(scores) == len(NAMES) and any(scores):
            self._posed += 1
            for n, score in enumerate(scores):
                self._seen[n] += score >= VISIBLE

    def _caption(self, about: dict[str, Any]) -> None:
        for part in PARTS:
            self._words[part].append(float(len(str(about[part]).split())))

    def _visibility(self) -> Chart | None:
        if not self._posed:
            return None
        share = tuple(round(100 * n / self._posed, 1) for n in self._seen)
        note = f"{self._posed:,} of {self.samples:,} photos have keypoints; seen: score ≥ {VISIBLE:g}, inside the crop."
        series = (Series("% of photos with keypoints", share, "1"),)
        return Chart("visibility", "Keypoints that can be seen", NAMES, series, "%", "", horizontal=True, note=note)

    def _lengths(self, figures: CaptionFigures | None) -> Chart | None:
        """In CLIP tokens where the caption stage counted them, else in words."""
        if figures is not None and any(sum(counts) for counts in figures.lengths.values()):
            series = tuple(Series(p, tuple(figures.lengths[p]), str(n + 1)) for n, p in enumerate(PARTS))
            return Chart("caption-length", "Caption length", BINS, series, "CLIP tokens", "captions")
        most = int(max((max(words, default=0) for words in self._words.values()), default=0))
        if not most:
            return None
        step = max(1, -(-most // 12))
        labels = tuple(f"{low}–{low + step - 1}" if step > 1 else str(low) for low in range(0, most + 1, step))
        counted = {
            p: tuple(sum(low <= w < low + step for w in self._words[p]) for low in range(0, most + 1, step))
            for p in PARTS
        }
        series = tuple(Series(p, counted[p], str(n + 1)) for n, p in enumerate(PARTS))
        return Chart("caption-length", "Caption length", labels, series, "words", "captions")
