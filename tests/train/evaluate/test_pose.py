"""Pose accuracy equals a written-out loop, and counts only what it says."""

import math

import numpy as np
import pytest

from train.evaluate.pose import SIGMAS, accuracy

VISIBLE = 0.5


def poses(seed):
    random = np.random.RandomState(seed)
    wanted = np.column_stack([random.uniform(0.1, 0.9, (12, 2)), random.uniform(0, 1, 12)])
    found = wanted + random.normal(0, 0.05, wanted.shape)
    return found, wanted


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_a_loop(seed):
    found, wanted = poses(seed)
    if seed == 0:
        wanted[[0, 1, 6, 7], 2] = 1  # the torso is seen
    seen = [p for p in wanted if p[2] >= VISIBLE]
    width, height = (max(p[i] for p in seen) - min(p[i] for p in seen) for i in (0, 1))
    torso = [wanted[i] for i in (0, 1, 6, 7)]
    reach = math.hypot(width, height)
    if all(p[2] >= VISIBLE for p in torso):
        reach = max(math.dist(torso[0][:2], torso[3][:2]), math.dist(torso[1][:2], torso[2][:2]))
    literal, oks, pck, both = 0.0, 0.0, 0, 0
    for i in range(12):
        squared = (found[i][0] - wanted[i][0]) ** 2 + (found[i][1] - wanted[i][1]) ** 2
        literal += squared / 12
        if found[i][2] >= VISIBLE and wanted[i][2] >= VISIBLE:
            both += 1
            oks += math.exp(-squared / (2 * width * height * (2 * SIGMAS[i]) ** 2))
            pck += math.sqrt(squared) <= 0.2 * reach
    assert accuracy(found, wanted) == pytest.approx(
        {"pose_literal": literal, "pose_oks": oks / both, "pose_pck": pck / both}, abs=1e-12
    )


def test_the_pose_itself_is_perfect_and_a_far_one_is_not():
    _, wanted = poses(3)
    wanted[:, 2] = 1
    assert accuracy(wanted, wanted) == {"pose_literal": 0.0, "pose_oks": 1.0, "pose_pck": 1.0}
    far = wanted + np.array([5, 5, 0])
    assert accuracy(far, wanted)["pose_pck"] == 0
    assert accuracy(far, wanted)["pose_literal"] == pytest.approx(50)


def test_nothing_seen_in_both_says_nothing_but_the_literal():
    found, wanted = poses(1)
    found[:, 2] = 0
    told = accuracy(found, wanted)
    assert told["pose_oks"] is told["pose_pck"] is None
    assert told["pose_literal"] > 0
