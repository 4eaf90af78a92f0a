"""`python -m benchmarks.pose`: how near BlazePose comes to labelled keypoints, and what the pose stage costs besides.

Likeness is COCO's OKS (its sigmas; area of the labelled outline) over the labelled ones of our 12 keypoints, of every
labelled person whose face is found. A person without a pose counts 0. Beside ours: the same networks as MediaPipe
chains them for a whole photo (detector, turned square, landmarks), and the landmarks in an upright square round the
labelled box, which no dataset has.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image as PillowImage

from benchmarks.bodies import Labelled, labelled, oks
from benchmarks.shared_photos import default_folder
from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.store import Store
from crawl.tables import Entry, Tables
from filter import pose
from filter.backends import blazepose as person
from filter.backends import blazepose_networks as networks
from filter.backends.blazepose import BlazePose
from filter.backends.litert import Network
from filter.config import FilterConfig, FilterRun
from filter.decide import Verified
from filter.faces import Face
from filter.models import load_pose
from filter.pose import PoseStage
from filter.resolution import measure
from filter.scan import Scanned

Chain = Callable[[BlazePose, Labelled], list[tuple[float, float]] | None]
_CROWD_PX, _GAP_PX, _ROUNDS = 300, 4, 10
"""Height of each body where all stand side by side; how often each photo is seen when time is taken."""


def main() -> None:
    shared = default_folder()
    os.environ.setdefault("PERSONAE_CACHE", str(shared / "models"))
    people = [p for p in labelled(shared / "photos" / "bodies") if p.face is not None]
    _print_likeness(people)
    print()
    _print_overhead(people)


def _print_likeness(people: list[Labelled]) -> None:
    model = load_pose(FilterConfig(pose="blazepose"))
    assert isinstance(model, BlazePose)
    rows: dict[str, list[list[float]]] = defaultdict(list)
    print("| photo | labels by | face px | labelled | ours | whole photo first | upright square, true box |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for one in [*people, *side_by_side(people)]:
        values = [0.0 if found is None else oks(found, one) for found in (chain(model, one) for chain in CHAINS)]
        rows[one.by].append(values)
        assert one.face is not None
        print(f"| {one.name} | {one.by} | {one.face.side_px:.0f} | {one.known.sum()} | {_cells(values)} |")
    for by, values in rows.items():
        print(f"| **mean of {len(values)}** | {by} | | | {_cells(np.mean(values, axis=0))} |")


def _cells(values: Any) -> str:
    return " | ".join(f"{value:.3f}" for value in values)


def ours(model: BlazePose, one: Labelled) -> list[tuple[float, float]] | None:
    """As the pose stage asks."""
    assert one.face is not None
    (found,) = model.estimate([one.photo], [one.face])
    return None if isinstance(found, Rejection) else list(found.keypoints_px)


def whole_photo_first(model: BlazePose, one: Labelled) -> list[tuple[float, float]] | None:
    """The detector sees the whole photo, the landmarks the square of the body at this face, once."""
    assert one.face is not None
    photo, centre = networks.Photo(one.photo), person.centre(one.face)
    whole = networks.Region((one.photo.width / 2, one.photo.height / 2), float(max(one.photo.size)), 0.0)
    found = model._detector.detect(photo, whole)
    near = np.flatnonzero(np.hypot(*(found.faces - centre).T) < found.face_sides / 2)
    if not len(near):
        return None
    return _points(model, photo, networks.region(found.hips[near[0]], found.tops[near[0]]))


def upright_square(model: BlazePose, one: Labelled) -> list[tuple[float, float]] | None:
    """The landmarks see the square round the true box, once."""
    left, top, right, bottom = one.box
    square = networks.Region(((left + right) / 2, (top + bottom) / 2), max(right - left, bottom - top), 0.0)
    return _points(model, networks.Photo(one.photo), square)


CHAINS: tuple[Chain, ...] = (ours, whole_photo_first, upright_square)


def _points(model: BlazePose, photo: networks.Photo, where: networks.Region) -> list[tuple[float, float]]:
    return list(person.pose(model._landmarker.look(photo, where)).keypoints_px)


def side_by_side(people: list[Labelled]) -> list[Labelled]:
    """The same people in one photo, each `_CROWD_PX` high."""
    cuts = [_cut(one) for one in people]
    crowd = PillowImage.new("RGB", (sum(c.photo.width + _GAP_PX for c in cuts), max(c.photo.height for c in cuts)))
    placed, left = [], 0
    for cut in cuts:
        crowd.paste(cut.photo, (left, 0))
        placed.append(_moved(cut, left, 1.0))
        left += cut.photo.width + _GAP_PX
    return [replace(one, name=f"{one.name}, side by side", by=f"{one.by}, side by side", photo=crowd) for one in placed]


def _cut(one: Labelled) -> Labelled:
    """This body alone, in a photo that ends a tenth of its height around it."""
    left, top, right, bottom = one.box
    margin, scale = 0.1 * (bottom - top), _CROWD_PX / (bottom - top)
    window = tuple(round(v) for v in (left - margin, top - margin, right + margin, bottom + margin))
    photo = one.photo.crop(window)  # black where the photo ends
    size = (round(photo.width * scale), round(photo.height * scale))
    moved = _moved(_moved(one, -window[0], 1.0, -window[1]), 0, scale)
    return replace(moved, photo=photo.resize(size, PillowImage.Resampling.LANCZOS))


def _moved(one: Labelled, right_px: float, scale: float, down_px: float = 0.0) -> Labelled:
    """Everything but the photo, moved and then scaled."""
    assert one.face is not None

    def move(values: Any) -> Any:
        return tuple((v + (right_px, down_px)[n % 2]) * scale for n, v in enumerate(values))

    face = Face(move(one.face.box_xyxy_px), tuple(move(p) for p in one.face.landmarks_px), one.face.score)
    points = (one.points + np.array([right_px, down_px])) * scale
    return replace(one, box=move(one.box), area_px=one.area_px * scale**2, points=points, face=face)


def _print_overhead(people: list[Labelled]) -> None:
    """One process, one thread; the stage as a build runs it, on a bucket that holds each photo several times."""
    print("| clock | photos | s | decode | networks | around them | the rest | s / ideal | s / (decode + networks) |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, clock in (("wall", time.perf_counter), ("CPU", time.process_time)):
        with tempfile.TemporaryDirectory() as folder:
            run = FilterRun.model_validate(
                {"output": folder, "crawl": {"root": folder}, "filter": {"pose": "blazepose"}, "shards": {"buckets": 1}}
            )
            photos = _prepare(run, people)
            whole, spent = _timed_stage(run, clock)
        model, decode, inside = spent["model"], spent["decode"], spent["networks"]
        parts = (decode, inside, model - inside, whole - model - decode)
        shares = " | ".join(f"{part / whole:.1%}" for part in parts)
        ratios = f"{whole / (model + decode):.3f} | {whole / (inside + decode):.3f}"
        print(f"| {name} | {photos} | {whole:.2f} | {shares} | {ratios} |")


def _prepare(run: FilterRun, people: list[Labelled]) -> int:
    """The tables that scan and verify would leave. How many photos there are."""
    output = Output(run.output)
    tables, store = Tables(output), Store(output)
    scanned = []
    for number, one in enumerate(people * _ROUNDS):
        path = default_folder() / "photos" / "bodies" / one.name.split()[0]
        sha256, suffix = store.put(path.read_bytes())
        photo = Photo(f"{number:032x}", "0" * 16, one.name, sha256, path.stat().st_size, suffix)
        assert one.face is not None
        scanned.append(Scanned(photo, measure(one.photo), (one.face,), 1))
    tables.write("scan", 0, Scanned, (Entry(s.photo.key, s) for s in scanned), "f")
    tables.write("verify", 0, Verified, (Entry(s.photo.key, Verified(0, 1.0, ())) for s in scanned), "f")
    return len(scanned)


def _timed_stage(run: FilterRun, clock: Callable[[], float]) -> tuple[float, dict[str, float]]:
    """Seconds of the stage, and in its parts; the model is loaded and has run once beforehand."""
    spent: dict[str, float] = defaultdict(float)

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = clock()
            result = function(*arguments)
            spent[part] += clock() - start
            return result

        return call

    stage = PoseStage(run, Output(run.output))
    estimator = stage._loaded()
    with (
        patch.object(pose, "decode_picture", timed(pose.decode_picture, "decode")),
        patch.object(Network, "run", timed(Network.run, "networks")),
        patch.object(estimator, "estimate", timed(estimator.estimate, "model")),
    ):
        stage.run(0, "f", lambda name, photos: None)
        spent.clear()
        start = clock()
        stage.run(0, "f", lambda name, photos: None)
        return clock() - start, spent


if __name__ == "__main__":
    main()
