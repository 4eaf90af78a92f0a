"""Each back-end finds faces where they are, in our order and frame, and embeds them repeatably.

The two packages' own classes run on small ONNX models made here, which see a face where a cell is red.
"""

import dataclasses
import itertools
import os
import sys
import warnings

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crawl.errors import InputError
from filter.align import aligned
from filter.backends import unit_rows
from filter.backends.embedded import (
    DESCRIPTOR_RADIUS,
    HogDetector,
    ResNetEmbedder,
    five_landmarks,
    lifted,
    predictor_box,
)
from filter.backends.open import MobileFaceNetEmbedder, RetinaFaceMobileNet, scales, suppressed, tiles
from filter.config import FilterConfig
from filter.faces import Face
from filter.models import (
    DETECTORS,
    DLIB_LANDMARKS_5,
    DLIB_RESNET,
    EMBEDDERS,
    MOBILEFACENET,
    RETINAFACE_MOBILENET,
    load_detector,
    load_embedder,
)
from filter.weights import weights_path

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install personae[dev]")
RED, BLUE = (255, 0, 0), (0, 0, 255)
FACE_IN_CELL = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


# The default back-end and the open one


@pytest.fixture(scope="session")
def hog():
    return HogDetector(weights_path(DLIB_LANDMARKS_5))


@pytest.fixture(scope="session")
def resnet_of_dlib_boxes():
    return ResNetEmbedder(weights_path(DLIB_LANDMARKS_5), weights_path(DLIB_RESNET), dlib_boxes=True)


@pytest.fixture(scope="session")
def resnet():
    return ResNetEmbedder(weights_path(DLIB_LANDMARKS_5), weights_path(DLIB_RESNET))


@pytest.fixture(scope="session")
def retinaface_mobilenet(shared_models):
    return RetinaFaceMobileNet(shared_models / RETINAFACE_MOBILENET.file)


@pytest.fixture(scope="session")
def mobilefacenet(shared_models):
    return MobileFaceNetEmbedder(shared_models / MOBILEFACENET.file)


@pytest.fixture(params=["hog", "retinaface_mobilenet"])
def detector(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["resnet", "resnet_of_dlib_boxes", "mobilefacenet"])
def embedder(request):
    return request.getfixturevalue(request.param)


def sure(detector, photo, least):
    """The faces that count with the table's default score."""
    min_score = DETECTORS["embedded" if isinstance(detector, HogDetector) else "open"].min_score
    return [face for face in detector.detect(photo, least) if face.score >= min_score]


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def resized(photo, scale):
    height, width = photo.shape[:2]
    return np.asarray(Image.fromarray(photo).resize((round(width * scale), round(height * scale))))


def test_landmarks_are_in_arcface_order_and_inside_the_box(detector, astronaut):
    (face,) = sure(detector, astronaut, 64)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks_px
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    left, top, right, bottom = face.box_xyxy_px
    assert all(left < x < right and top < y < bottom for x, y in face.landmarks_px)


@pytest.mark.parametrize("scale", [0.6, 2.0, 3.7])
def test_boxes_and_landmarks_scale_with_the_photo(detector, astronaut, scale):
    (face,) = sure(detector, astronaut, 80)
    (again,) = sure(detector, resized(astronaut, scale), int(80 * scale))
    assert overlap(again.box_xyxy_px, [scale * v for v in face.box_xyxy_px]) > 0.75
    eyes_apart = face.landmarks_px[1][0] - face.landmarks_px[0][0]
    off = np.array(again.landmarks_px) / scale - np.array(face.landmarks_px)
    assert np.abs(off).max() < 0.15 * eyes_apart


@pytest.mark.parametrize("least", [40, 100, 200])
def test_a_face_of_half_the_least_size_is_still_found(detector, astronaut, least):
    """The astronaut's face has 100 px."""
    assert overlap(sure(detector, astronaut, least)[0].box_xyxy_px, (174, 74, 268, 174)) > 0.6


def test_every_face_of_a_group_is_found_best_first(detector, astronaut):
    group = np.concatenate([astronaut, astronaut[:, ::-1], astronaut], axis=1)
    faces = sure(detector, group, 64)
    assert len(faces) == 3
    assert [f.score for f in faces] == sorted((f.score for f in faces), reverse=True)
    assert sorted(int(f.box_xyxy_px[0]) // 512 for f in faces) == [0, 1, 2]


def test_no_sure_face_where_none_is(detector):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for photo in (np.zeros((200, 300, 3), np.uint8), noise, np.full((1, 1, 3), 9, np.uint8), noise[:2]):
        assert sure(detector, photo, 64) == []


def test_detection_repeats_and_leaves_the_photo_alone(detector, astronaut):
    photo = astronaut.copy()
    assert sure(detector, photo, 64) == sure(detector, photo[:, ::-1][:, ::-1], 64)
    np.testing.assert_array_equal(photo, astronaut)


def test_embeddings_are_unit_rows_that_do_not_depend_on_batching(embedder, hog, astronaut):
    group = np.concatenate([astronaut, resized(astronaut, 2)[:512, 256:768], astronaut[:, ::-1]], axis=1)
    faces = sure(hog, group, 64)
    assert len(faces) >= 2
    together = embedder.embed(group, faces)
    assert together.dtype == np.float32
    assert together.shape == (len(faces), embedder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    alone = np.concatenate([embedder.embed(group, [face]) for face in faces])
    np.testing.assert_array_equal(together, alone)
    assert embedder.embed(group, []).shape == (0, embedder.dimensions)


def test_an_embedding_is_of_the_face_not_of_its_place(embedder, hog, astronaut):
    (face,) = sure(hog, astronaut, 64)
    larger = np.zeros((1500, 2000, 3), np.uint8)
    larger[700:1212, 1200:1712] = astronaut
    (moved,) = sure(hog, larger, 64)
    (here,), (there,) = embedder.embed(astronaut, [face]), embedder.embed(larger, [moved])
    mirrored = embedder.embed(astronaut[:, ::-1], sure(hog, astronaut[:, ::-1], 64))[0]
    assert here @ there > 0.98
    assert here @ there > here @ mirrored


def test_the_embedder_takes_any_detectors_landmarks(resnet, hog, retinaface_mobilenet, astronaut):
    (own,) = resnet.embed(astronaut, sure(hog, astronaut, 64))
    (other,) = resnet.embed(astronaut, sure(retinaface_mobilenet, astronaut, 64))
    assert own @ other > 0.99


def test_the_box_of_anothers_landmarks_is_dlibs(hog, retinaface_mobilenet, astronaut):
    (ours,), (theirs,) = sure(hog, astronaut, 64), sure(retinaface_mobilenet, astronaut, 64)
    assert overlap(predictor_box(theirs.landmarks_px), ours.box_xyxy_px) > 0.75


def test_dlibs_eyes_are_between_their_corners(hog, astronaut):
    (face,) = sure(hog, astronaut, 64)
    corners = hog.shape_px(astronaut, face.box_xyxy_px)
    assert corners[2, 0] < corners[3, 0] < corners[4, 0] < corners[1, 0] < corners[0, 0]
    np.testing.assert_array_equal(face.landmarks_px[:2], [corners[2:4].mean(0), corners[:2].mean(0)])


def test_nose_tip_and_mouth_are_where_another_detector_sees_them(hog, retinaface_mobilenet, astronaut):
    (ours,), (theirs,) = sure(hog, astronaut, 64), sure(retinaface_mobilenet, astronaut, 64)
    off = np.linalg.norm(np.subtract(ours.landmarks_px, theirs.landmarks_px), axis=1)
    assert (off < 0.2 * np.linalg.norm(np.subtract(*theirs.landmarks_px[:2]))).all()


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(0.1, 40), st.booleans())
def test_landmarks_turn_and_mirror_with_dlibs_five_points(seed, angle, scale, mirror):
    shape = np.array([(9, 0), (4, 0), (-9, 0), (-4, 0), (1, 8)], float)
    shape += np.random.default_rng(seed).uniform(-1, 1, (5, 2))
    turn = scale * np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    flip = np.diag((-1 if mirror else 1, 1))
    swap_shape, swap = ([2, 3, 0, 1, 4], [1, 0, 2, 4, 3]) if mirror else (slice(None), slice(None))
    moved = five_landmarks((shape @ flip @ turn + (50, 7))[swap_shape])
    expected = np.array(five_landmarks(shape))[swap] @ flip @ turn + (50, 7)
    np.testing.assert_allclose(moved, expected, atol=1e-9 * scale + 1e-9)


def test_a_nose_to_the_side_is_a_tip_further_to_the_side():
    """What yaw is told from."""
    (*_, ahead, _, _), (*_, aside, _, _) = (
        five_landmarks(np.array([(9.0, 0), (4, 0), (-9, 0), (-4, 0), (x, 8)])) for x in (0, 2)
    )
    assert ahead[0] == 0
    assert aside[0] > 2


@pytest.mark.parametrize(
    ("models", "used", "not_used"),
    [("embedded", "box_xyxy_px", "landmarks_px"), ("open", "landmarks_px", "box_xyxy_px")],
)
def test_dlibs_own_boxes_are_used_and_others_are_drawn_round_landmarks(hog, astronaut, models, used, not_used):
    embedder = load_embedder(FilterConfig(models=models, embedder="embedded"))
    (face,) = sure(hog, astronaut, 64)
    elsewhere = dataclasses.replace(
        face,
        box_xyxy_px=tuple(v + 40 for v in face.box_xyxy_px),
        landmarks_px=tuple((x + 40, y + 40) for x, y in face.landmarks_px),
    )
    without = dataclasses.replace(face, **{not_used: getattr(elsewhere, not_used)})
    moved = dataclasses.replace(face, **{used: getattr(elsewhere, used)})
    rows = embedder.embed(astronaut, [face, without, moved])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


@given(st.integers(0, 2**32 - 1), st.floats(0, 1.6), st.floats(0, 1.6))
def test_the_lift_turns_distance_into_cosine(seed, a_length, b_length):
    a, b = (v / np.linalg.norm(v) for v in np.random.default_rng(seed).normal(size=(2, 128)))
    a, b = a * a_length, b * b_length
    up_a, up_b = unit_rows([lifted(a), lifted(b)], 129, "x").astype(float)
    last = (up_a[-1] - up_b[-1]) * DESCRIPTOR_RADIUS
    assert 1 - up_a @ up_b == pytest.approx(((a - b) @ (a - b) + last**2) / (2 * DESCRIPTOR_RADIUS**2), abs=1e-6)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "is zero")])
def test_a_row_without_direction_is_the_models_fault(value, said):
    with pytest.raises(AssertionError, match=f"some-model: an embedding is {said.removeprefix('is ')}"):
        unit_rows([[1.0, 2.0], [value, value]], 2, "some-model")


# Real people: detection and the ROC of both back-ends


@pytest.mark.slow
@pytest.mark.parametrize(
    ("find", "embed", "least_auc", "least_tar"),
    [
        ("hog", "resnet_of_dlib_boxes", 0.999, 0.96),
        ("hog", "mobilefacenet", 0.999, 0.99),
        ("retinaface_mobilenet", "mobilefacenet", 0.999, 0.99),
    ],
)
def test_people_are_found_and_told_apart(request, shared_photos, find, embed, least_auc, least_tar):
    detector, embedder = request.getfixturevalue(find), request.getfixturevalue(embed)
    names, rows, missed = [], [], 0
    for row in (r for r in shared_photos if not r["near_dup_of"]):
        photo = np.asarray(Image.open(row["path"]).convert("RGB"))
        least = min(256, int(min(row["box"][2] - row["box"][0], row["box"][3] - row["box"][1])))
        found = [f for f in sure(detector, photo, least) if overlap(f.box_xyxy_px, row["box"]) > 0.3]
        missed += not found
        if found:
            names.append(row["identity"])
            rows.append(embedder.embed(photo, found[:1])[0])
    assert missed == 0
    pairs = np.triu_indices(len(rows), 1)
    same, cosines = np.equal.outer(np.array(names), np.array(names))[pairs], (np.array(rows) @ np.array(rows).T)[pairs]
    negatives = np.sort(cosines[~same])
    auc = np.searchsorted(negatives, cosines[same]).mean() / len(negatives)
    assert auc > least_auc
    assert (cosines[same] > np.quantile(negatives, 0.998)).mean() > least_tar


# The open detector's tiles


@pytest.mark.parametrize("length", [1, 100, 320, 321, 500, 640, 641, 2111])
def test_every_small_face_lies_whole_in_some_tile(length):
    """Along one side, all places; a face within 2 px of an inner edge counts as cut."""
    starts = sorted({left for left, _ in tiles(length, 1)})
    assert starts == sorted({top for _, top in tiles(1, length)})
    for side in (1, 60, 128):
        for left in range(length - side + 1):
            assert any(
                left >= start + 2 * (start > 0) and left + side <= start + 320 - 2 * (start + 320 < length)
                for start in starts
            )


@given(st.integers(1, 12_000), st.integers(1, 12_000), st.integers(16, 4000))
def test_the_finest_scale_shows_the_least_face_large_enough(height, width, least):
    found = scales(height, width, least)
    assert found[0] == 320 / max(height, width)
    assert all(1 < b / a <= 4.0001 for a, b in itertools.pairwise(found))
    assert found[-1] * least >= 31.99 or found[-1] ** 2 * height * width >= 15.99e6
    assert len(found) == 1 or found[-1] * least <= 32.01


@pytest.mark.parametrize(("left", "top"), [(0, 0), (1033, 417), (1378, 1190), (1711, 1287)])
def test_a_small_face_in_a_large_photo_is_found_once_wherever_it_is(retinaface_mobilenet, astronaut, left, top):
    (alone,) = sure(retinaface_mobilenet, astronaut, 100)
    large = np.full((1800, 2224, 3), 128, np.uint8)
    large[top : top + 512, left : left + 512] = astronaut
    (face,) = sure(retinaface_mobilenet, large, 64)
    shifted = np.add(alone.box_xyxy_px, (left, top, left, top))
    assert overlap(face.box_xyxy_px, shifted) > 0.8


def test_overlapping_boxes_leave_the_best():
    rows = np.zeros((4, 15), np.float32)
    rows[:, 0] = 0.7, 0.9, 0.8, 0.6
    rows[:, 1:5] = [(0, 0, 10, 10), (1, 0, 11, 10), (20, 0, 30, 10), (0, 0, 10, 4)]
    np.testing.assert_array_equal(suppressed(rows)[:, 0], np.float32([0.9, 0.8, 0.6]))
    np.testing.assert_array_equal(suppressed(rows[::-1])[:, 0], np.float32([0.9, 0.8, 0.6]))


# Small models that stand in for weights


def write_model(path, inputs, nodes, constants, outputs):
    graph = onnx.helper.make_graph(
        nodes,
        "made_in_the_test",
        [onnx.helper.make_tensor_value_info(*inputs)],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def red_scores(channels, cell, steepness, at, bias=None):
    """Convolution weights whose channel i is `steepness[i]` · (mean red of the cell − `at`)."""
    weights = np.zeros((channels, 3, cell, cell), np.float32)
    weights[:, 0] = np.reshape(steepness, (-1, 1, 1)) / cell**2
    return weights, np.asarray(-np.array(steepness) * at if bias is None else bias, np.float32)


def scrfd(path, nan=False, landmarks=True):
    """SCRFD's nine outputs (six without landmarks): the first of a 32 px cell's two anchors fires where it is red."""
    node, nodes, constants, outputs = onnx.helper.make_node, [], {}, []
    points = np.array(FACE_IN_CELL, np.float32).ravel()
    kinds = {"score": 1, "box": 4, "points": 10} if landmarks else {"score": 1, "box": 4}
    for (kind, width), cell in itertools.product(kinds.items(), (8, 16, 32)):
        weights, bias = np.zeros((2 * width, 3, cell, cell), np.float32), np.zeros(2 * width, np.float32)
        if kind == "score":
            weights, bias = red_scores(2, cell, [40, 0], 0.9)  # input is (v − 127.5) / 128
            bias = np.array([bias[0] if cell == 32 else -50, np.nan if nan else -50], np.float32)
            weights *= cell == 32
        elif kind == "box":
            bias[:4] = 0, 0, 1, 1
        else:
            bias[:10] = points
        name = f"{kind}{cell}"
        constants |= {f"w_{name}": weights, f"b_{name}": bias, f"s_{name}": np.array([-1, width], np.int64)}
        nodes += [
            node("Conv", ["input", f"w_{name}", f"b_{name}"], [f"c_{name}"], strides=[cell, cell]),
            node("Transpose", [f"c_{name}"], [f"t_{name}"], perm=[0, 2, 3, 1]),
            node("Reshape", [f"t_{name}", f"s_{name}"], [name if kind != "score" else f"l_{name}"]),
        ]
        if kind == "score":
            nodes.append(node("Sigmoid", [f"l_{name}"], [name]))
        outputs.append((name, [None, width]))
    return write_model(path, ("input", onnx.TensorProto.FLOAT, [1, 3, None, None]), nodes, constants, outputs)


def arcface(path, name="input", dimensions=512, nan=False):
    """Random, but with the real one's input and output."""
    node, rng = onnx.helper.make_node, np.random.default_rng(7)
    constants = {
        "w": rng.normal(size=(8, 3, 16, 16)).astype(np.float32),
        "g": rng.normal(size=(392, dimensions)).astype(np.float32) * (np.nan if nan else 1),
        "s": np.array([1, 392], np.int64),
    }
    nodes = [
        node("Conv", [name, "w"], ["c"], strides=[16, 16]),
        node("Relu", ["c"], ["r"]),
        node("Reshape", ["r", "s"], ["f"]),
        node("MatMul", ["f", "g"], ["embedding"]),
    ]
    return write_model(
        path, (name, onnx.TensorProto.FLOAT, [1, 3, 112, 112]), nodes, constants, [("embedding", [1, dimensions])]
    )


def resnet50_heads(path, nan=False):
    """retina-face's nine outputs: the smaller anchor of a 16 px cell, 64 px a side, fires where the cell is red."""
    node, nodes, constants, outputs = onnx.helper.make_node, [], {}, []
    nodes.append(node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]))
    points = np.array(FACE_IN_CELL, np.float32).ravel() - 0.5
    for cell, (kind, width) in itertools.product((32, 16, 8), {"score": 4, "box": 8, "points": 20}.items()):
        weights, bias = np.zeros((width, 3, cell, cell), np.float32), np.zeros(width, np.float32)
        if kind == "score":
            weights, bias = red_scores(4, cell, [0, 0, 0, 0.3 if cell == 16 else 0], 230)
            bias = np.array([0, 0, np.nan if nan else -50, bias[3] if cell == 16 else -50], np.float32)
        elif kind == "points":
            bias[10:] = points
        name = f"{kind}{cell}"
        constants |= {f"w_{name}": weights, f"b_{name}": bias}
        nodes.append(node("Conv", ["planes", f"w_{name}", f"b_{name}"], [f"c_{name}"], strides=[cell, cell]))
        last = f"c_{name}"
        if kind == "score":
            nodes.append(node("Sigmoid", [last], [f"p_{name}"]))
            last = f"p_{name}"
        nodes.append(node("Transpose", [last], [name], perm=[0, 2, 3, 1]))
        outputs.append((name, [1, None, None, width]))
    return write_model(path, ("pixels", onnx.TensorProto.FLOAT, [1, None, None, 3]), nodes, constants, outputs)


def photo_with(*squares, side=640):
    photo = np.full((side, side, 3), 40, np.uint8)
    for left, top, size, colour in squares:
        photo[top : top + size, left : left + size] = colour
    return photo


def landmarks_in(left, top, side):
    return np.array(FACE_IN_CELL) * side + (left, top)


# The open back-end on made and on broken weights


def test_mobilefacenet_gets_the_aligned_face_in_imagenets_scaling(tmp_path, astronaut, hog):
    weights = arcface(tmp_path / "mobilefacenet.onnx", "input0", 128)
    (face,) = sure(hog, astronaut, 64)
    (row,) = MobileFaceNetEmbedder(weights).embed(astronaut, [face])
    red, green, blue = np.moveaxis(aligned(astronaut, face.landmarks_px) / 255, 2, 0)
    pixels = np.stack([(red - 0.485) / 0.229, (green - 0.456) / 0.224, (blue - 0.406) / 0.225])
    raw = onnxruntime.InferenceSession(weights).run(None, {"input0": pixels[None].astype(np.float32)})[0][0]
    np.testing.assert_allclose(row, raw / np.linalg.norm(raw), atol=1e-5)


def test_a_model_that_gives_no_numbers_stops_the_run(tmp_path, astronaut):
    model = MobileFaceNetEmbedder(arcface(tmp_path / "nan.onnx", "input0", 128, nan=True))
    face = Face((0, 0, 9, 9), ((1.0, 1.0), (8.0, 1.0), (4.0, 5.0), (2.0, 8.0), (7.0, 8.0)), 1.0)
    with pytest.raises(AssertionError, match="mobilefacenet-arcface: an embedding is not finite"):
        model.embed(astronaut, [face])


def test_a_cut_file_is_named(tmp_path):
    whole = arcface(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "html.onnx").write_bytes(b"<!DOCTYPE html><html>404</html>")
    for name in ("cut.onnx", "html.onnx"):
        with pytest.raises(InputError, match=f"{name}: not a whole ONNX file"):
            RetinaFaceMobileNet(tmp_path / name)


# insightface's packs


@pytest.fixture
def insightface():
    pytest.importorskip("insightface", reason="insightface is not installed: pip install personae[insightface]")
    from filter.backends import insightface

    return insightface


@pytest.mark.parametrize("side", [640, 1280])
def test_scrfd_sees_red_where_it_is(insightface, tmp_path, side):
    scale = side // 640
    photo = photo_with((96 * scale, 320 * scale, 32 * scale, RED), (320, 64, 64, BLUE), side=side)
    (face,) = insightface.Scrfd(scrfd(tmp_path / "det_500m.onnx")).detect(photo, 32 * scale)
    left, top, size = 96 * scale, 320 * scale, 32 * scale
    np.testing.assert_allclose(face.box_xyxy_px, (left, top, left + size, top + size), atol=0.01)
    np.testing.assert_allclose(face.landmarks_px, landmarks_in(left, top, size), atol=0.01)
    assert 0.9 < face.score <= 1


def test_a_small_face_in_a_large_photo_gets_a_larger_input(insightface, tmp_path):
    detector = insightface.Scrfd(scrfd(tmp_path / "det_500m.onnx"))
    photo = photo_with((1024, 512, 32, RED), side=2048)
    assert len(detector.detect(photo, 32)) == 1
    assert detector.detect(photo, 256) == []
    assert insightface.input_sides(2048, 32) == [128, 2048]
    assert insightface.input_sides(9000, 16)[-1] == 2560


def test_faces_that_fill_the_photo_and_small_ones_are_seen_in_one_go(insightface, tmp_path):
    photo = photo_with((0, 0, 160, RED), side=640)  # one cell of the 128 px input, 25 of the 640 px one
    faces = insightface.Scrfd(scrfd(tmp_path / "det_500m.onnx")).detect(photo, 64)
    assert any(f.side_px == pytest.approx(160, abs=0.5) for f in faces)


def test_arcface_gets_the_aligned_face_in_the_packages_own_scaling(insightface, tmp_path, astronaut, hog):
    weights = arcface(tmp_path / "w600k_mbf.onnx")
    model, (face,) = insightface.ArcFace(weights), sure(hog, astronaut, 64)
    assert model.dimensions == 512
    rows = model.embed(astronaut, [face, face])
    pixels = (aligned(astronaut, face.landmarks_px).astype(np.float32) - 127.5) / 127.5
    raw = onnxruntime.InferenceSession(weights).run(None, {"input": pixels.transpose(2, 0, 1)[None]})[0][0]
    np.testing.assert_allclose(rows[0], raw / np.linalg.norm(raw), atol=1e-5)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert model.embed(astronaut, []).shape == (0, 512)


def test_a_pack_of_broken_weights_is_refused(insightface, tmp_path, astronaut):
    with pytest.raises(AssertionError, match=r"det_500m\.onnx: an output is not finite"):
        insightface.Scrfd(scrfd(tmp_path / "det_500m.onnx", nan=True))
    recogniser = insightface.ArcFace(arcface(tmp_path / "w600k_mbf.onnx", nan=True))
    face = Face((0, 0, 9, 9), ((1.0, 1.0), (8.0, 1.0), (4.0, 5.0), (2.0, 8.0), (7.0, 8.0)), 1.0)
    with pytest.raises(AssertionError, match=r"w600k_mbf\.onnx: an embedding is not finite"):
        recogniser.embed(astronaut, [face])


def test_a_pack_with_the_wrong_files_is_named(insightface, tmp_path):
    with pytest.raises(InputError, match="no landmarks"):
        insightface.Scrfd(scrfd(tmp_path / "boxes_only.onnx", landmarks=False))
    with pytest.raises(InputError, match=r"arc\.onnx: insightface knows this file as recognition, not detection"):
        insightface.Scrfd(arcface(tmp_path / "arc.onnx"))
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "arc.onnx").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.onnx: not a whole ONNX file"):
        insightface.ArcFace(tmp_path / "cut.onnx")


def test_the_pack_is_found_in_the_cache_first_then_in_insightfaces_folder(insightface, tmp_path):
    cache, root = tmp_path / "cache", tmp_path / "root"
    places = [root / "models" / "antelopev2" / "antelopev2", root / "models" / "antelopev2", cache / "antelopev2"]
    for folder in places:
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("scrfd_10g_bnkps.onnx", "glintr100.onnx"):
            (folder / file).touch()
        found = insightface.pack_paths("antelopev2", cache, root)
        assert found == (folder / "scrfd_10g_bnkps.onnx", folder / "glintr100.onnx")


def test_an_unknown_pack_is_named(insightface, tmp_path):
    with pytest.raises(InputError, match="unknown pack 'buffalo'; known: antelopev2, buffalo_l"):
        insightface.pack_paths("buffalo", tmp_path, tmp_path)


@pytest.mark.parametrize("place", ["cache", "home/.insightface/models"])
def test_the_config_leads_to_the_pack(insightface, tmp_path, monkeypatch, place):
    monkeypatch.setenv("PERSONAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    scrfd(tmp_path / place / "buffalo_sc" / "det_500m.onnx")
    arcface(tmp_path / place / "buffalo_sc" / "w600k_mbf.onnx")
    config = FilterConfig(
        models="insightface", insightface_pack="buffalo_sc", accept_licence="insightface-non-commercial"
    )
    detector, embedder = load_detector(config), load_embedder(config)
    photo = photo_with((96, 320, 32, RED))
    assert embedder.embed(photo, detector.detect(photo, 32)).shape == (1, EMBEDDERS["insightface"].dimensions)


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "insightface", None)
    from filter.backends.insightface import ArcFace

    with pytest.raises(InputError, match=r"insightface is not installed: pip install 'personae\[insightface\]'"):
        ArcFace(tmp_path / "any.onnx")


# retina-face


@pytest.fixture
def retinaface(monkeypatch):
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", os.environ.get("DEEPFACE_BACKEND_ENGINE", ""))
    pytest.importorskip("cv2", reason="retina-face is not installed: pip install personae[retina-face]")
    from filter.backends import retinaface

    return retinaface


@pytest.mark.parametrize("scale", [1, 3])
def test_retinaface_sees_red_where_it_is(retinaface, tmp_path, scale):
    photo = photo_with((96 * scale, 320 * scale, 16 * scale, RED), (320, 64, 64, BLUE), side=640 * scale)
    (face,) = retinaface.RetinaFaceResNet50(resnet50_heads(tmp_path / "retinaface.onnx")).detect(photo, 64 * scale)
    left, top, side = (96 + 7.5 - 31.5) * scale, (320 + 7.5 - 31.5) * scale, 64 * scale
    np.testing.assert_allclose(face.box_xyxy_px, (left, top, left + side, top + side), atol=1.01 * scale)
    np.testing.assert_allclose(face.landmarks_px, landmarks_in(left, top, side), atol=1.01 * scale)
    assert 0.9 < face.score <= 1


def test_retinaface_finds_nothing_in_nothing_and_several_best_first(retinaface, tmp_path):
    detector = retinaface.RetinaFaceResNet50(resnet50_heads(tmp_path / "retinaface.onnx"))
    assert detector.detect(photo_with(), 64) == []
    assert detector.detect(photo_with(side=1), 64) == []
    faint = (240, 0, 0)
    faces = detector.detect(photo_with((96, 320, 16, faint), (320, 96, 16, RED), (480, 480, 16, faint)), 64)
    assert [round(f.box_xyxy_px[0] + 24) for f in faces] == [320, 96, 480]


def test_a_retinaface_of_broken_weights_stops_the_run(retinaface, tmp_path):
    detector = retinaface.RetinaFaceResNet50(resnet50_heads(tmp_path / "retinaface.onnx", nan=True))
    with pytest.raises(AssertionError, match=r"retinaface\.onnx: an output is not finite"):
        detector.detect(photo_with(), 64)


def test_the_package_does_not_mute_our_warnings(retinaface, tmp_path):
    before = list(warnings.filters)
    for name in [name for name in sys.modules if name.partition(".")[0] == "retinaface"]:
        del sys.modules[name]
    retinaface.RetinaFaceResNet50(resnet50_heads(tmp_path / "retinaface.onnx"))
    assert warnings.filters == before


def test_retinafaces_weights_are_looked_for_in_both_places(retinaface, tmp_path):
    cache, home = tmp_path / "cache", tmp_path / "home"
    for path in (home / ".deepface" / "weights" / "retinaface.onnx", cache / "retinaface.onnx"):
        path.parent.mkdir(parents=True)
        path.touch()
        assert retinaface.weights_path(cache, home) == path


def test_retinafaces_own_place_is_as_we_say(retinaface, tmp_path, monkeypatch):
    from retinaface.commons import weight_utils

    path = tmp_path / ".deepface" / "weights" / retinaface.FILE
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    assert weight_utils.download_weights_if_necessary(retinaface.FILE, []) == str(path)


@pytest.mark.parametrize("place", ["cache", "home/.deepface/weights"])
def test_the_config_leads_to_retinaface_with_the_default_embedder(retinaface, tmp_path, monkeypatch, place):
    monkeypatch.setenv("PERSONAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path / "home"))
    resnet50_heads(tmp_path / place / "retinaface.onnx")
    config = FilterConfig(models="retina-face", accept_licence="insightface-non-commercial")
    detector, embedder = load_detector(config), load_embedder(config)
    photo = photo_with((96, 320, 16, RED))
    assert embedder.embed(photo, detector.detect(photo, 64)).shape == (1, EMBEDDERS["embedded"].dimensions)


def test_without_retinaface_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "retinaface", None)
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "")
    from filter.backends.retinaface import RetinaFaceResNet50

    with pytest.raises(InputError, match=r"retinaface is not installed: pip install 'personae\[retina-face\]'"):
        RetinaFaceResNet50(tmp_path / "any.onnx")
