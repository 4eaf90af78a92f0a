"""ViTPose as transformers runs it: a small one with random weights, made here and loaded as a real one is."""

import numpy as np
import pytest
from PIL import Image

from crawl.errors import InputError
from crawl.photo import Rejection
from filter.backends.blazepose_networks import LANDMARKS, Landmarks
from filter.backends.vitpose import VitPose, box_of, version
from filter.config import FilterConfig
from filter.faces import Face
from filter.models import licences, load_pose, pose_names

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install personae[vitpose]"
)
import torch  # noqa: E402

FACE = Face((40.0, 20.0, 60.0, 45.0), ((45.0, 30.0), (55.0, 30.0), (50.0, 35.0), (46.0, 40.0), (54.0, 40.0)), 1)
BOXES = [(10.0, 5.0, 70.0, 100.0), (30.0, 20.0, 50.5, 90.25), (0.0, 0.0, 120.0, 90.0)]
VARIANTS = {
    "simple": {"use_simple_decoder": True},
    "classic": {"use_simple_decoder": False},
    "plus": {"use_simple_decoder": True, "experts": 3},
}


def save(folder, use_simple_decoder=True, experts=1, labels=17, seed=0):
    """A ViTPose of a few thousand weights, with its image processor."""
    torch.manual_seed(seed)
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[16, 16], hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_experts=experts, part_features=8 if experts > 1 else 0, out_indices=[2],
    )  # fmt: skip
    config = transformers.VitPoseConfig(
        backbone_config=backbone, num_labels=labels, use_simple_decoder=use_simple_decoder, initializer_range=0.3
    )
    transformers.VitPoseForPoseEstimation(config).save_pretrained(folder)
    transformers.VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request, tmp_path_factory):
    return save(tmp_path_factory.mktemp(request.param) / "tiny-vitpose", **VARIANTS[request.param])


def photos(count, seed=1):
    rng = np.random.default_rng(seed)
    sizes = [(90, 120), (110, 80), (100, 130)]
    return [Image.fromarray(rng.integers(0, 256, (*sizes[n % 3], 3), np.uint8)) for n in range(count)]


def by_transformers(folder, pictures, boxes):
    """What the library's own example does, all 17 points."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.VitPoseForPoseEstimation.from_pretrained(folder).eval()
    wanted = [[[left, top, right - left, bottom - top]] for left, top, right, bottom in boxes]
    inputs = processor(pictures, boxes=wanted, return_tensors="pt")
    if model.config.backbone_config.num_experts > 1:
        inputs["dataset_index"] = torch.zeros(len(pictures), dtype=torch.long)
    with torch.no_grad():
        outputs = model(**inputs)
    return [people[0] for people in processor.post_process_pose_estimation(outputs, boxes=wanted)]


class Bodies:
    """Stands for BlazePose: the next photo's body, or why there is none."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def body(self, photo, face):
        return self.answers.pop(0)


def body(*corners):
    """All landmarks in these places."""
    points = np.resize(np.array(corners, float), (LANDMARKS, 2))
    return Landmarks(points, np.full(LANDMARKS, 0.9), 1.0)


def test_keypoints_are_exactly_transformers_own(folder):
    pictures = photos(3)
    found = VitPose(str(folder), "main", Bodies()).poses(pictures, BOXES)
    expected = by_transformers(folder, pictures, BOXES)
    for pose, person in zip(found, expected, strict=True):
        assert person["keypoints"].shape == (17, 2)
        assert pose.keypoints_px == tuple(map(tuple, person["keypoints"][5:].tolist()))
        assert pose.scores == tuple(min(max(score, 0.0), 1.0) for score in person["scores"][5:].tolist())
    assert len({pose.keypoints_px for pose in found}) == 3, "random weights see a difference"


def test_each_photo_gets_its_own_answer_when_some_have_no_body(folder):
    pictures, none = photos(3), Rejection("pose", "no_body", 0.1, 0.5)
    bodies = [body((20, 30), (60, 80)), none, body((40, 10), (50, 90))]
    found = VitPose(str(folder), "main", Bodies(*bodies)).estimate(pictures, [FACE] * 3)
    assert found[1] is none
    boxes = [box_of(b, p, FACE) for b, p in zip(bodies, pictures, strict=True) if b is not none]
    expected = by_transformers(folder, [pictures[0], pictures[2]], boxes)
    for pose, person in zip((found[0], found[2]), expected, strict=True):
        assert pose.keypoints_px == tuple(map(tuple, person["keypoints"][5:].tolist()))


def test_a_batch_without_bodies_asks_nothing(folder):
    none = Rejection("pose", "no_body")
    assert VitPose(str(folder), "main", Bodies(none, none)).estimate(photos(2), [FACE] * 2) == [none, none]


def test_the_box_holds_what_is_seen_and_the_face_and_a_margin():
    seen = body((30, 50), (70, 80))
    photo = Image.new("RGB", (120, 90))
    assert box_of(seen, photo, FACE) == pytest.approx((24, 14, 76, 86)), "a tenth of 60 px all round"
    hidden = Landmarks(seen.points_px + 300, seen.visibility, 1.0)
    assert box_of(hidden, photo, FACE) == pytest.approx((37.5, 17.5, 62.5, 47.5)), "nothing in the photo but the face"
    assert box_of(body((-50, 50), (119, 89)), photo, FACE)[2:] == (120, 90), "inside the photo"


def test_a_folder_is_named_by_its_own_name_and_content(tmp_path):
    one, other = save(tmp_path / "a" / "tiny"), save(tmp_path / "b" / "tiny", seed=1)
    names = [version(str(folder), "main") for folder in (one, other)]
    assert all(name.startswith("tiny@") for name in names), "never the path"
    assert names[0] != names[1]
    assert version(str(save(tmp_path / "c" / "tiny")), "main") == names[0]
    assert version("someone/vitpose", "abc123") == "someone/vitpose@abc123"


def test_the_configured_one_is_loaded_and_named(folder, shared_models, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install personae[pose]")
    monkeypatch.setenv("PERSONAE_CACHE", str(shared_models))
    config = FilterConfig(pose="vitpose", vitpose_model=str(folder))
    assert isinstance(load_pose(config), VitPose)
    names = pose_names(config)
    assert [name.partition("@")[0] for name in names] == [
        "blazepose-detector", "blazepose-landmarks-lite", "tiny-vitpose",
    ]  # fmt: skip
    lines = licences(config)
    assert [line.partition(":")[0] for line in lines[-3:]] == [
        "blazepose-detector",
        "blazepose-landmarks-lite",
        names[2],
    ]
    assert not any(str(folder.parent) in line for line in lines)
    hub = licences(FilterConfig(pose="vitpose", vitpose_revision="abc"))[-1]
    assert (
        hub == "usyd-community/vitpose-base-simple@abc: Apache-2.0 (huggingface.co/usyd-community/vitpose-base-simple)"
    )


@pytest.mark.parametrize(
    ("labels", "said"), [(11, "finds 11 keypoints, COCO's 17 are needed"), (None, "cannot be loaded")]
)
def test_what_is_no_vitpose_of_coco_is_refused_in_one_line(tmp_path, labels, said):
    folder = tmp_path / "wrong"
    folder.mkdir()
    if labels:
        save(folder, labels=labels)
    with pytest.raises(InputError, match=f"^filter.vitpose_model: {folder}: {said}") as error:
        VitPose(str(folder), "main", Bodies())
    assert "\n" not in str(error.value)
