"""`python -m filter try`: what it says of single photos, and that what it draws is there."""

import io

import numpy as np
import pytest
from PIL import Image

from crawl.errors import InputError
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Rejection
from crawl.tables import Entry, Tables
from filter.config import FilterConfig
from filter.decide import IDENTITIES
from filter.faces import Face
from filter.keypoints import NAMES, Pose
from filter.models import load_detector, load_embedder
from filter.overlay import LONGEST_PX, Findings, drawn
from filter.trial import in_words, try_command
from filter.verify import IdentityFinding

RUN = """
output: {folder}/out
crawl: {{root: {folder}/photos}}
filter: {{min_side_px: 256, min_face_px: 64}}
shards: {{buckets: 1}}
"""
FACE = Face((40.0, 20.0, 60.0, 45.0), ((45.0, 30.0), (55.0, 30.0), (50.0, 35.0), (46.0, 40.0), (54.0, 40.0)), 1)


@pytest.fixture
def folder(tmp_path, astronaut):
    (tmp_path / "run.yaml").write_text(RUN.format(folder=tmp_path))
    Image.fromarray(astronaut).save(tmp_path / "astronaut.jpg", quality=95)
    return tmp_path


def tried(folder, *arguments):
    return try_command([str(folder / "run.yaml"), *map(str, arguments), "--to", str(folder / "tried")])


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_photo_is_measured_and_its_best_face_drawn(folder, capsys):
    assert tried(folder, folder / "astronaut.jpg") == 0
    first, faces, best, written = lines(capsys)
    assert first.startswith(f"{folder}/astronaut.jpg: 512 × 512 px, sharpness ")
    assert faces.endswith(" of them count")
    assert "the best face: " in best
    assert "nobody is verified yet" in best
    assert written == f"  drawn: {folder}/tried/astronaut.png"
    with Image.open(folder / "tried" / "astronaut.png") as picture, Image.open(folder / "astronaut.jpg") as photo:
        assert picture.size == photo.size
        assert (np.asarray(picture) != np.asarray(photo)).any(axis=2).sum() > 500


def test_a_rejected_photo_says_why_and_is_drawn_all_the_same(folder, capsys):
    assert tried(folder, folder / "astronaut.jpg", "filter.min_side_px=1000", "filter.min_face_px=300") == 0
    said = lines(capsys)
    assert said[1] == "  rejected by resolution: short_side (512, threshold 1000)"
    assert "; rejected by faces: " in said[2]
    assert said[3].startswith("  drawn: ")


def test_what_is_no_photo_is_said_and_the_others_go_on(folder, capsys):
    (folder / "page.jpg").write_text("<html>")
    assert tried(folder, folder / "page.jpg", folder / "astronaut.jpg") == 1
    said = lines(capsys)
    assert said[0] == f"{folder}/page.jpg: rejected by decode: format"
    assert (folder / "tried" / "astronaut.png").is_file()
    assert not (folder / "tried" / "page.png").exists()


def verified_as(folder, name, centre):
    tables = Tables(Output(str(folder / "out")))
    tables.write("people", 0, Person, [Entry("1" * 16, Person("1" * 16, name, "asked", "a list"))], "f")
    finding = IdentityFinding("1" * 16, "cluster", 5, 5, centre, 0.96, 5, 5, 0, None, ())
    tables.write(IDENTITIES, 0, IdentityFinding, [Entry("1" * 16, finding)], "f")


def test_the_named_person_is_sought_among_those_who_are_verified(folder, astronaut, capsys):
    config = FilterConfig()
    faces = load_detector(config).detect(astronaut, 64)
    (centre,) = load_embedder(config).embed(astronaut, faces[:1])
    verified_as(folder, "Eileen", centre)
    assert tried(folder, folder / "astronaut.jpg") == 0
    assert any("verified: " in line and "nearest to Eileen " in line for line in lines(capsys))
    verified_as(folder, "Eileen", -centre)
    assert tried(folder, folder / "astronaut.jpg") == 0
    assert any("not_this_person: " in line for line in lines(capsys))
    verified_as(folder, "Eileen", centre[:64])
    with pytest.raises(InputError, match="was verified with another embedder than embedded"):
        tried(folder, folder / "astronaut.jpg")


def test_the_body_is_drawn_with_real_weights(folder, shared_models, monkeypatch, capsys):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install personae[pose]")
    monkeypatch.setenv("PERSONAE_CACHE", str(shared_models))
    tried(folder, folder / "astronaut.jpg")
    without = np.asarray(Image.open(folder / "tried" / "astronaut.png"))
    capsys.readouterr()
    assert tried(folder, folder / "astronaut.jpg", "filter.pose=blazepose") == 0
    captured = capsys.readouterr()
    assert "keypoints are to be seen" in captured.out
    assert "blazepose-detector: Apache-2.0" in captured.err
    changed = (np.asarray(Image.open(folder / "tried" / "astronaut.png")) != without).any(axis=2)
    assert changed[256:].sum() > 200, "shoulders and arms are in the lower half"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such photo"),
        (["filter.pose=none"], "no PHOTO is named"),
        (["{folder}/astronaut.jpg", "filter.posse=none"], r"filter\.posse: unknown key \(did you mean pose\?\)"),
        (["{folder}"], "no such photo"),
    ],
)
def test_wrong_input_is_one_line(folder, arguments, said):
    with pytest.raises(InputError, match=said) as error:
        tried(folder, *(argument.format(folder=folder) for argument in arguments))
    assert "\n" not in str(error.value)
    assert not (folder / "tried").exists()


def test_a_photo_is_never_drawn_over(folder):
    (folder / "tried").mkdir()
    photo = folder / "tried" / "a.png"
    Image.open(folder / "astronaut.jpg").save(photo)
    before = photo.read_bytes()
    with pytest.raises(InputError, match="would overwrite"):
        tried(folder, photo)
    assert photo.read_bytes() == before


def test_two_photos_of_one_name_are_two_drawings(folder, capsys):
    (folder / "b").mkdir()
    (folder / "b" / "astronaut.jpg").write_bytes((folder / "astronaut.jpg").read_bytes())
    assert tried(folder, folder / "astronaut.jpg", folder / "b" / "astronaut.jpg") == 0
    assert sorted(p.name for p in (folder / "tried").iterdir()) == ["astronaut-2.png", "astronaut.png"]


def test_numbers_stand_behind_the_reason():
    assert in_words(Rejection("faces", "no_face")) == "rejected by faces: no_face"
    assert in_words(Rejection("crop", "x", 0.25)) == "rejected by crop: x (0.25)"


# The drawing


def changed(findings, size=(100, 100)):
    photo = Image.new("RGB", size)
    return np.asarray(drawn(photo, findings)).any(axis=2)


def test_only_what_was_found_is_drawn():
    assert not changed(Findings()).any()
    marks = changed(Findings(found=(FACE,)))
    assert marks[20, 40:60].all()
    assert marks[20:45, 40].all()
    assert not marks[30, 45:56].any(), "inside the box is the photo"
    assert changed(Findings(chosen=FACE))[30, 45], "the chosen face's landmarks"


def test_bones_join_the_points_and_what_is_hidden_is_thinner():
    points = tuple((20.0 + 50 * (n % 2), 10.0 + 15 * (n // 2)) for n in range(12))
    seen, hidden = (changed(Findings(pose=Pose(points, (score,) * 12))) for score in (0.9, 0.1))
    for marks in (seen, hidden):
        assert marks[10, 30:60].all(), "shoulder to shoulder"
    assert seen.sum() > hidden.sum() > 0


def test_left_and_right_have_their_own_colours():
    points = tuple((20.0 + 50 * (n % 2), 10.0 + 15 * (n // 2)) for n in range(12))
    picture = drawn(Image.new("RGB", (100, 100)), Findings(pose=Pose(points, (0.9,) * 12)))
    colours = {
        name.split()[0]: picture.getpixel((round(x), round(y))) for name, (x, y) in zip(NAMES, points, strict=True)
    }
    assert len(set(colours.values())) == 2


def test_a_large_photo_is_shrunk_with_what_is_on_it():
    photo = Image.new("RGB", (4000, 2000))
    picture = drawn(photo, Findings(found=(Face((400, 400, 800, 800), FACE.landmarks_px, 1),)))
    assert picture.size == (LONGEST_PX, LONGEST_PX // 2)
    assert picture.getpixel((round(400 * LONGEST_PX / 4000), round(600 * LONGEST_PX / 4000))) != (0, 0, 0)
    assert photo.getpixel((400, 600)) == (0, 0, 0), "the photo itself is left as it is"


def test_points_outside_the_photo_are_no_error():
    buffer = io.BytesIO()
    drawn(Image.new("RGB", (50, 50)), Findings(pose=Pose(((-900.0, 4000.0),) * 12, (0.0,) * 12))).save(buffer, "PNG")
