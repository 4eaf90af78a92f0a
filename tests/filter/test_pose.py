"""The pose stage: one answer a verified photo, in batches, redone alone; and what the crop makes of it."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from crawl.output import Output
from crawl.photo import Photo, Rejection
from crawl.stage import run_pending
from crawl.store import Store
from crawl.tables import Entry, Tables
from filter.config import FilterRun
from filter.cut import CropStage
from filter.decide import Verified
from filter.keypoints import NAMES, Pose
from filter.models import load_detector
from filter.portrait import Portrait
from filter.pose import PoseStage, pose_stages
from filter.resolution import measure
from filter.scan import Scanned

IDENTITY = "1" * 16
VERIFIED_FACE_X = 80.0
"""Left edge of the second face of `verified`."""


def run_of(tmp_path, pose="blazepose", **more):
    config = {"pose": pose, "size_px": 64, **more}
    return FilterRun.model_validate(
        {"output": str(tmp_path), "crawl": {"root": "photos"}, "filter": config, "shards": {"buckets": 1}}
    )


class Estimator:
    """Puts all 12 points where the face is; as it is told, fails or finds nobody."""

    def __init__(self, bad=(), nobody=()):
        self.batches, self.bad, self.nobody = [], set(bad), set(nobody)

    def estimate(self, photos, faces):
        colours = [photo.getpixel((0, 0))[0] // 40 for photo in photos]
        self.batches.append(colours)
        assert all(face.box_xyxy_px[0] == VERIFIED_FACE_X for face in faces)
        if self.bad & set(colours):
            raise ValueError("cannot look at this")
        pose = Pose(tuple((90.0, 40.0 + 9 * n) for n in range(12)), tuple(n / 12 for n in range(12)))
        return [Rejection("pose", "no_body", 0.1, 0.5) if colour in self.nobody else pose for colour in colours]


def stage_with(run, estimator):
    stage = PoseStage(run, Output(run.output))
    stage._estimator = estimator
    return stage


def poses(run, estimator, tables):
    ticks = []
    stage = stage_with(run, estimator)
    stage.run(0, "f", lambda name, photos: ticks.append(photos))
    entries = list(tables.read("pose", 0, Pose))
    assert sum(ticks) == len(entries)
    return {entry.key: entry for entry in entries}


@pytest.mark.parametrize(
    ("pose", "batches"), [("blazepose", [[0], [1], [3]]), ("vitpose", [[0, 1, 3]])], ids=["one by one", "in batches"]
)
def test_every_verified_photo_has_one_answer_in_order(verified, tmp_path, pose, batches):
    tables, keys = verified
    estimator = Estimator(nobody=[1])
    found = poses(run_of(tmp_path, pose), estimator, tables)
    assert list(found) == [keys[0], keys[1], keys[3], keys[4]]
    assert estimator.batches == batches
    assert found[keys[0]].row.keypoints_px[0] == (90.0, 40.0)
    assert found[keys[1]].row is None
    assert found[keys[1]].rejection == Rejection("pose", "no_body", 0.1, 0.5)
    assert found[keys[4]].rejection.stage == "decode"


def test_batches_are_as_large_as_configured(verified, tmp_path):
    estimator = Estimator()
    poses(run_of(tmp_path, "vitpose", pose_batch_size=2), estimator, verified[0])
    assert estimator.batches == [[0, 1], [3]]


def test_a_photo_that_fails_costs_its_own_pose_only(verified, tmp_path):
    tables, keys = verified
    estimator = Estimator(bad=[1])
    found = poses(run_of(tmp_path, "vitpose"), estimator, tables)
    assert estimator.batches == [[0, 1, 3], [0], [1], [3]]
    assert found[keys[1]].rejection.reason == "error"
    assert "cannot look at this" in found[keys[1]].rejection.detail
    assert found[keys[0]].row is not None
    assert found[keys[3]].row is not None


def test_a_fault_of_ours_is_not_hidden(verified, tmp_path):
    class Broken(Estimator):
        def estimate(self, photos, faces):
            raise AssertionError("an output is not finite")

    with pytest.raises(AssertionError, match="not finite"):
        poses(run_of(tmp_path), Broken(), verified[0])
    assert verified[0].fingerprint("pose", 0) is None, "nothing half-written"


def test_without_a_pose_model_there_is_no_stage(tmp_path):
    assert pose_stages(run_of(tmp_path, "none"), Output(str(tmp_path))) == []
    assert [s.name for s in pose_stages(run_of(tmp_path), Output(str(tmp_path)))] == ["pose"]


def portraits(run, tables):
    output = Output(run.output)
    crop = CropStage(run, output, {})
    crop.run(0, crop.fingerprint(0), lambda name, photos: None)
    return {e.key: e.row for e in tables.read("crop", 0, Portrait) if e.row is not None}


def test_the_crop_holds_the_pose_in_its_own_pixels(verified, tmp_path):
    tables, keys = verified
    run = run_of(tmp_path)
    poses(run, Estimator(nobody=[1]), tables)
    rows = portraits(run, tables)
    row = rows[keys[0]]
    left, top, right, _ = row.crop_xyxy_px
    scale = 64 / (right - left)
    expected = [((90 - left) * scale, (40 + 9 * n - top) * scale) for n in range(12)]
    assert np.array(row.keypoints) == pytest.approx(np.array(expected))
    inside = [0 <= y <= 64 for _, y in expected]
    assert not all(inside), "the last ones are below this crop"
    assert row.keypoint_scores == tuple(n / 12 if seen else 0.0 for n, seen in enumerate(inside))
    assert row.keypoints_reason is None
    assert any(name.startswith("blazepose-landmarks") for name in row.models)
    nobody = rows[keys[1]]
    assert (nobody.keypoints, nobody.keypoint_scores, nobody.keypoints_reason) == (None, None, "no_body")


def test_a_pose_table_of_another_run_file_is_not_looked_at(verified, tmp_path):
    tables, keys = verified
    poses(run_of(tmp_path), Estimator(), tables)
    row = portraits(run_of(tmp_path, "none"), tables)[keys[0]]
    assert (row.keypoints, row.keypoints_reason) == (None, "no pose model is configured")
    assert not any("blazepose" in name for name in row.models)


def test_another_pose_model_redoes_poses_and_crops_and_nothing_before(verified, tmp_path):
    tables, _ = verified
    output = Output(str(tmp_path))

    def done(run):
        stages = [*(stage_with(run, Estimator()) for _ in pose_stages(run, output)), CropStage(run, output, {})]
        return run_pending(stages, 0, tables, lambda name, photos: None)

    folder = tmp_path / "tiny"
    folder.mkdir()
    assert done(run_of(tmp_path, "none")) == ["crop"]
    assert done(run_of(tmp_path)) == ["pose", "crop"]
    assert done(run_of(tmp_path)) == []
    assert done(run_of(tmp_path, "vitpose", vitpose_model=str(folder))) == ["pose", "crop"]
    assert done(run_of(tmp_path, "vitpose", vitpose_model=str(folder), pose_batch_size=3)) == ["pose", "crop"]
    assert (tables.fingerprint("scan", 0), tables.fingerprint("verify", 0)) == ("scanned", "verified")


def test_with_real_weights_the_same_photo_gives_the_same_bytes(shared, shared_models, tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install personae[pose]")
    monkeypatch.setenv("PERSONAE_CACHE", str(shared_models))
    content = (shared / "photos" / "bodies" / "human__person-vlado1.jpg").read_bytes()
    tables = []
    for name in ("one", "other"):
        run = run_of(tmp_path / name, models="open", min_face_px=64)
        output = Output(run.output)
        picture = Image.open(io.BytesIO(content))
        face = load_detector(run.filter).detect(np.asarray(picture), 64)[0]
        sha256, suffix = Store(output).put(content)
        photo = Photo("0" * 32, IDENTITY, "a.jpg", sha256, len(content), suffix)
        scanned = Scanned(photo, measure(picture), (face,), 1)
        Tables(output).write("scan", 0, Scanned, [Entry(photo.key, scanned)], "f")
        Tables(output).write("verify", 0, Verified, [Entry(photo.key, Verified(0, 0.9, ()))], "f")
        run_pending([*pose_stages(run, output), CropStage(run, output, {})], 0, Tables(output), lambda *_: None)
        tables.append([output.read(f"tables/{stage}/00000.parquet") for stage in ("pose", "crop")])
    assert tables[0] == tables[1]
    (entry,) = Tables(output).read("pose", 0, Pose)
    assert len(entry.row.keypoints_px) == len(NAMES)
    assert sum(score >= 0.5 for score in entry.row.scores) == 12
    assert dataclasses.astuple(entry.row) == dataclasses.astuple(next(Tables(output).read("pose", 0, Pose)).row)
