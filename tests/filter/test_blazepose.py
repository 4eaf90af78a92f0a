"""BlazePose finds the body of the face it is asked for: alone, in a crowd, lying, cut off; and says when there is none.

The networks' own arithmetic is tested without weights; the rest on real weights and photos.
"""

import numpy as np
import pytest
from PIL import Image

from benchmarks.bodies import labelled, oks
from benchmarks.pose import side_by_side
from crawl.photo import Rejection
from filter.backends.blazepose import (
    BODY_SIDE,
    HIPS_BELOW,
    KEYPOINTS,
    BlazePose,
    below_face,
    between,
    centre,
    distance,
    span_px,
)
from filter.backends.blazepose_networks import (
    HEATMAP_PX,
    LANDMARKS,
    BodyDetector,
    BodyLandmarker,
    Landmarks,
    Region,
    anchors,
    decoded,
    refined,
    region,
)
from filter.config import FilterConfig
from filter.faces import Face
from filter.models import BLAZEPOSE_DETECTOR, BLAZEPOSE_LANDMARKER, load_detector

FACE = Face((80.0, 60.0, 120.0, 120.0), ((90.0, 80.0), (110.0, 80.0), (100.0, 92.0), (92.0, 103.0), (108.0, 103.0)), 1)
NOWHERE = np.zeros((LANDMARKS, 2))


def turned(face, angle):
    """The face turned clockwise about the photo's corner."""
    landmarks = np.array(face.landmarks_px) @ rotation(angle).T
    return Face(face.box_xyxy_px, tuple(map(tuple, landmarks)), face.score)


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


# The networks' arithmetic


def test_anchors_are_the_centres_of_three_grids():
    found = anchors()
    assert found.shape == (2254, 2)
    assert found[0].tolist() == found[1].tolist() == [4, 4]
    assert found[2].tolist() == [12, 4]
    assert found[28 * 28 * 2].tolist() == [8, 8]
    assert found[-1].tolist() == found[-6].tolist() == [208, 208]
    assert ((found > 0) & (found < 224)).all()


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.5, 3.0])
def test_a_region_is_told_by_the_hips_and_a_point_straight_up(angle):
    up = np.array([np.sin(angle), -np.cos(angle)])
    found = region((50.0, 70.0), np.array([50.0, 70.0]) + 40 * up)
    assert found.centre_px == (50, 70)
    assert found.side_px == pytest.approx(100), "the circle's diameter and a quarter"
    assert found.angle == pytest.approx(angle)
    to_photo = found.to_photo(256)
    assert to_photo @ [128, 128, 1] == pytest.approx([50, 70])
    assert to_photo @ [128, 0, 1] == pytest.approx(np.array([50.0, 70.0]) + 50 * up), "up in the crop is up the body"


def test_two_points_in_one_place_are_no_region_of_nothing():
    assert region((5.0, 5.0), (5.0, 5.0)).side_px > 0


def test_rows_of_the_detector_become_places_in_the_photo():
    places, logits = np.zeros((2254, 12), np.float32), np.full(2254, -9.0, np.float32)
    chosen, better = 28 * 28 * 2 + 5, 17
    places[chosen] = [2, -3, 20, 20, 4, 50, 4, -10, 0, 0, 0, 0]
    logits[chosen], logits[better] = 1.0, 2.0
    grid = anchors()
    found = decoded(places, logits, grid, Region((112.0, 112.0), 448.0, 0.0).to_photo(224))
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))])
    x, y = grid[chosen]
    assert found.faces[1].tolist() == pytest.approx([(x + 2) * 2 - 112, (y - 3) * 2 - 112])
    assert found.face_sides[1] == pytest.approx(40)
    assert found.hips[1].tolist() == pytest.approx([(x + 4) * 2 - 112, (y + 50) * 2 - 112])
    assert found.tops[1].tolist() == pytest.approx([(x + 4) * 2 - 112, (y - 10) * 2 - 112])


def test_heat_draws_points_near_it_and_cold_leaves_them():
    points = np.array([[20.3, 30.7], [20.3, 30.7], [-3.0, 5.0], [0.2, 63.5], [20.3, 30.7]], np.float32)
    heat = np.full((HEATMAP_PX, HEATMAP_PX, 5), -20.0, np.float32)
    heat[32, 21, 0] = 9.0  # row, column
    heat[30, 20, 1] = -0.1  # just below a half
    heat[5, 0, 2] = heat[63, 0, 3] = heat[60, 2, 3] = 9.0
    heat[40, 20, 4] = 9.0  # too far
    found = refined(points, heat)
    assert found[0].tolist() == pytest.approx([21, 32])
    assert found[[1, 2, 4]].tolist() == points[[1, 2, 4]].tolist(), "cold, outside the map, out of reach"
    assert found[3].tolist() == pytest.approx([1, 61.5]), "the mean of two, at the edge"


# Where to look


def test_a_body_is_sought_straight_below_its_face():
    found = below_face(FACE)
    x, y = centre(FACE)
    assert found.angle == pytest.approx(0)
    assert found.centre_px == pytest.approx((x, y + HIPS_BELOW * span_px(FACE)))
    assert found.side_px == pytest.approx(BODY_SIDE * span_px(FACE))


@pytest.mark.parametrize("angle", [0.7, -1.5, 3.0])
def test_the_search_turns_with_the_face(angle):
    upright, found = below_face(FACE), below_face(turned(FACE, angle))
    assert between(found.angle, angle) == pytest.approx(0)
    assert found.side_px == pytest.approx(upright.side_px)
    assert found.centre_px == pytest.approx(rotation(angle) @ upright.centre_px)


def test_a_turned_head_is_as_large_as_one_seen_from_the_front():
    profile = Face(FACE.box_xyxy_px, tuple(((x - 100) / 9 + 100, y) for x, y in FACE.landmarks_px), 1)
    nodding = Face(FACE.box_xyxy_px, tuple((x, (y - 90) / 9 + 90) for x, y in FACE.landmarks_px), 1)
    assert span_px(profile) == pytest.approx(span_px(FACE), rel=0.05)
    assert span_px(nodding) == pytest.approx(span_px(FACE), rel=0.05)


class Script:
    """A landmarker that sees what it is told to, look by look; and a detector that sees nobody."""

    def __init__(self, *bodies):
        self.bodies, self.looked_at = list(bodies), []

    def look(self, photo, where):
        self.looked_at.append(where)
        return self.bodies[min(len(self.looked_at), len(self.bodies)) - 1]

    def detect(self, photo, where):
        return decoded(np.zeros((2254, 12), np.float32), np.full(2254, -9, np.float32), anchors(), where.to_photo(224))


def body(at=FACE, hips=(100.0, 300.0), radius=180.0, visibility=0.9, presence=1.0):
    points = np.full((LANDMARKS, 2), 150.0)
    points[[5, 2, 0, 10, 9]] = at.landmarks_px
    points[33], points[34] = hips, (hips[0], hips[1] - radius)
    return Landmarks(points, np.full(LANDMARKS, visibility), presence)


OTHER = Face(FACE.box_xyxy_px, tuple((x + 80, y) for x, y in FACE.landmarks_px), 1)
PHOTO = Image.new("RGB", (400, 600))


def ask(*bodies):
    script = Script(*bodies)
    return BlazePose(script, script).body(PHOTO, FACE), script


def test_looks_until_the_region_stands_still():
    first, second, third = body(hips=(100, 320)), body(hips=(100, 400)), body(hips=(100, 402))
    found, script = ask(first, second, third)
    assert found is third
    assert [where.centre_px for where in script.looked_at[1:]] == [(100, 320), (100, 400)]


def test_a_body_that_never_stands_still_costs_five_looks():
    _, script = ask(*(body(hips=(100, 300 + 90 * (n % 2))) for n in range(9)))
    assert len(script.looked_at) == 5


def test_what_moves_on_to_a_neighbour_is_not_followed():
    mine = body()
    assert ask(mine, body(at=OTHER))[0] is mine


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (body(presence=0.3), "no_body"),
        (body(visibility=0.2), "no_body"),
        (body(at=OTHER), "other_body"),
    ],
)
def test_why_there_is_no_body(seen, reason):
    found, _ = ask(seen)
    assert isinstance(found, Rejection)
    assert (found.stage, found.reason) == ("pose", reason)
    assert (found.value < found.threshold) == (reason == "no_body")


# Real weights


@pytest.fixture(scope="session")
def blazepose(shared_models):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install personae[pose]")
    return BlazePose(
        BodyDetector(shared_models / BLAZEPOSE_DETECTOR.file), BodyLandmarker(shared_models / BLAZEPOSE_LANDMARKER.file)
    )


@pytest.fixture(scope="session")
def people(shared, shared_models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONAE_CACHE", str(shared_models))
        return [person for person in labelled(shared / "photos" / "bodies") if person.face is not None]


@pytest.fixture(scope="session")
def alone(people):
    """Those who are alone in their photo, and seen whole."""
    return [person for person in people if person.by == "eye" or "000000000785" in person.name]


def likeness(blazepose, one):
    (found,) = blazepose.estimate([one.photo], [one.face])
    return 0.0 if isinstance(found, Rejection) else oks(found.keypoints_px, one)


@pytest.mark.parametrize(("by", "least"), [("COCO", 0.70), ("eye", 0.85)])
def test_keypoints_are_where_people_label_them(blazepose, people, by, least):
    values = {one.name: likeness(blazepose, one) for one in people if one.by == by}
    assert values
    assert np.mean(list(values.values())) >= least, values


def test_in_a_crowd_every_face_gets_its_own_body(blazepose, alone):
    crowd = side_by_side(alone)
    for one in crowd:
        own = likeness(blazepose, one)
        (found,) = blazepose.estimate([one.photo], [one.face])
        others = [oks(found.keypoints_px, other) for other in crowd if other is not one]
        assert own >= 0.70, one.name
        assert max(others) < 0.05, one.name


def test_two_people_get_the_keypoints_that_each_has_alone(blazepose, alone):
    for pair in (alone[:2], alone[2:4]):
        single = [side_by_side([one])[0] for one in pair]
        shifts_px = (0, single[0].photo.width)
        for one, other, right_px in zip(single, side_by_side(pair), shifts_px, strict=True):
            (a,), (b,) = (blazepose.estimate([p.photo], [p.face]) for p in (one, other))
            moved = np.array(a.keypoints_px) + np.array([right_px, 0])
            apart = np.hypot(*(moved - b.keypoints_px).T) / (one.box[3] - one.box[1])
            assert np.median(apart) < 0.02, apart
            assert apart.max() < 0.1, apart


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_body_may_lie_any_way(blazepose, alone, quarters):
    one = next(p for p in alone if p.name == "human__stock-models-10.jpg")
    photo = one.photo.rotate(-90 * quarters, expand=True)
    turn = rotation(np.pi / 2 * quarters)
    middle, new_middle = np.array(one.photo.size) / 2, np.array(photo.size) / 2
    landmarks = tuple(map(tuple, (np.array(one.face.landmarks_px) - middle) @ turn.T + new_middle))
    (found,) = blazepose.estimate([photo], [Face(one.face.box_xyxy_px, landmarks, 1.0)])
    back = (np.array(found.keypoints_px) - new_middle) @ turn + middle
    assert oks(back, one) >= 0.8


def test_a_face_whose_landmarks_are_read_upside_down_is_helped_by_the_detector(blazepose, alone):
    one = next(p for p in alone if p.name == "human__person-vlado1.jpg")
    left, right, nose, mouth_left, mouth_right = one.face.landmarks_px
    wrong = Face(one.face.box_xyxy_px, (mouth_left, mouth_right, nose, left, right), 1.0)
    assert abs(below_face(wrong).angle) > 2.5
    (found,) = blazepose.estimate([one.photo], [wrong])
    assert oks(found.keypoints_px, one) >= 0.8


def test_the_landmarks_know_the_face_they_belong_to(blazepose, alone):
    for one in alone:
        found = blazepose.body(one.photo, one.face)
        assert distance(found, one.face) < 0.6, one.name


def test_a_face_alone_is_no_body(blazepose, astronaut, shared_models):
    face = load_detector(FilterConfig(models="embedded")).detect(astronaut, 64)[0]
    left, top, right, bottom = (round(v) for v in face.box_xyxy_px)
    close_up = Image.fromarray(astronaut[top:bottom, left:right])
    moved = Face((0, 0, right - left, bottom - top), tuple((x - left, y - top) for x, y in face.landmarks_px), 1.0)
    (found,) = blazepose.estimate([close_up], [moved])
    assert isinstance(found, Rejection)
    assert found.reason == "no_body"


def test_shoulders_are_a_body(blazepose, astronaut):
    face = load_detector(FilterConfig(models="embedded")).detect(astronaut, 64)[0]
    (found,) = blazepose.estimate([Image.fromarray(astronaut)], [face])
    (left, _), (right, _) = found.keypoints_px[:2]
    assert left > right, "her left shoulder is on the photo's right"
    assert min(found.scores[:2]) >= 0.5
    assert max(found.scores[8:]) < 0.5, "knees and ankles are not in the photo"


def test_nobody_is_no_body(blazepose):
    (found,) = blazepose.estimate([Image.new("RGB", (400, 600), (120, 130, 140))], [FACE])
    assert isinstance(found, Rejection)
    assert found.reason == "no_body"


def test_the_same_photo_gives_the_same_numbers_whatever_came_before(blazepose, alone):
    first = blazepose.estimate([alone[0].photo], [alone[0].face])
    blazepose.estimate([alone[1].photo], [alone[1].face])
    assert blazepose.estimate([alone[0].photo], [alone[0].face]) == first


def test_our_twelve_are_the_bodys_left_and_right(blazepose, alone):
    """Somebody who faces the camera has their left on the photo's right."""
    one = next(p for p in alone if p.name == "human__person-vlado1.jpg")
    (found,) = blazepose.estimate([one.photo], [one.face])
    x = [x for x, _ in found.keypoints_px]
    assert all(left > right for left, right in zip(x[::2], x[1::2], strict=True))
    assert len(KEYPOINTS) == len(x) == 12
