"""`python -m train generate`: the same picture from a run and from what was exported of it; faults are one line."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from crawl.errors import InputError
from crawl.photo import Photo
from filter.config import FilterConfig
from filter.cut import cut
from filter.decide import Verified
from filter.faces import Face
from filter.resolution import Measures
from filter.scan import Scanned
from shards.encoders.config import BaseConfig
from train.__main__ import main
from train.adapters import load_adapter
from train.base_models import load_base
from train.checkpoint import Meta, save
from train.config import TrainRun
from train.export.write import write
from train.portraits import Portraits
from train.weights import collect

FACE = Face((60.0, 50.0, 120.0, 120.0), ((75, 75), (105, 75), (90, 90), (78, 105), (102, 105)), 1.0)


class Detector:
    """Two faces in every photo; none in a dark one."""

    def detect(self, image, min_face_px):
        small = Face((5.0, 5.0, 40.0, 40.0), FACE.landmarks_px, 3.0)
        return [small, FACE] if image.mean() > 40 else []


@pytest.fixture(autouse=True)
def faces(monkeypatch):
    monkeypatch.setattr("train.portraits.load_detector", lambda config: Detector())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise in three colours, and a dark picture."""
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in {
        "red": (200, 60, 60),
        "green": (60, 200, 60),
        "blue": (60, 60, 200),
        "dark": (0, 0, 0),
    }.items():
        noise = np.random.RandomState(len(name)).randint(0, 40, (180, 200, 3))
        Image.fromarray(np.clip(noise + np.array(colour), 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    (folder / "text.jpg").write_text("no photo")
    return folder


def run_file(folder, kind="ip_adapter", **adapter):
    return TrainRun.model_validate(
        {
            "output": str(folder / "run"),
            "data": {"dataset": "none", "size_px": 32},
            "adapter": {"kind": kind, **adapter},
            "loop": {"steps": 1, "batch_size": 1},
            "samples": {"merge_step": 1},
        }
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A run folder of an adapter as if trained, and what was exported of it: native and for diffusers."""
    folder = tmp_path_factory.mktemp("weights")
    run, base = run_file(folder), load_base(BaseConfig(), clip=True)
    adapter = load_adapter(run.adapter, base)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    save(folder / "run", Meta(step=1, run=run, data="none"), {"weights": collect(base, adapter, frozenset())})
    about = {"step": 1, "data": "none", "made_with": {}}
    for format in ("native", "diffusers"):
        write(run, adapter, about, format, str(folder / f"{format}.safetensors"))
    return folder


def generate(weights, output, *arguments, prompt="a photo of a woman in red"):
    return main(["generate", str(weights), "--prompt", prompt, "--output", str(output), "--steps", "2", *arguments])


def pixels(path):
    return np.asarray(Image.open(path), np.int16)


def test_the_same_command_gives_the_same_bytes_and_each_seed_its_own_picture(weights, photos, tmp_path, capsys):
    red = ["--reference", str(photos / "red.png")]
    for folder in ("one", "again"):
        assert generate(weights / "run", tmp_path / folder, *red, "--seed", "7", "--count", "5") == 0
    names = [f"{seed:04d}.png" for seed in range(7, 12)]
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == names
    assert [(tmp_path / "one" / n).read_bytes() for n in names] == [
        (tmp_path / "again" / n).read_bytes() for n in names
    ]
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "one/0007.png")
    pictures = [pixels(tmp_path / "one" / name) for name in names]
    assert pictures[0].shape == (32, 32, 3)
    assert len({picture.tobytes() for picture in pictures}) == 5
    generate(weights / "run", tmp_path / "alone", *red, "--seed", "11")
    assert np.abs(pixels(tmp_path / "alone/0011.png") - pictures[-1]).max() <= 1, "whatever is drawn beside it"


def test_a_picture_says_how_it_was_made_and_not_from_whom(weights, photos, tmp_path):
    references = [str(photos / f"{name}.png") for name in ("red", "green")]
    generate(weights / "run", tmp_path, "--reference", *references, "--scale", "identity=0.5", "--negative", "dark")
    about = json.loads(Image.open(tmp_path / "0000.png").text["personae"])
    assert about == {
        "prompt": "a photo of a woman in red", "background": "", "body": "", "references": 2, "seed": 0, "steps": 2,
        "guidance": 5.0, "merge_step": 1, "scheduler": "euler", "negative": "dark", "scales": {"identity": 0.5},
    }  # fmt: skip
    assert b"red.png" not in (tmp_path / "0000.png").read_bytes()


def test_references_scales_and_merge_step_change_the_picture(weights, photos, tmp_path):
    red, blue = (["--reference", str(photos / f"{name}.png")] for name in ("red", "blue"))
    cases = {
        "red": red, "blue": blue, "both": [*red, str(photos / "blue.png")], "weak": [*red, "--scale", "identity=0.1"],
        "late": [*red, "--merge-step", "2"], "early": [*red, "--merge-step", "0"],
        "ddim": [*red, "--scheduler", "ddim"],
    }  # fmt: skip
    for name, arguments in cases.items():
        generate(weights / "run", tmp_path / name, *arguments)
    assert len({pixels(tmp_path / name / "0000.png").tobytes() for name in cases}) == len(cases)
    generate(weights / "run", tmp_path / "late too", *blue, "--merge-step", "2")
    late, too = (pixels(tmp_path / name / "0000.png") for name in ("late", "late too"))
    assert np.array_equal(late, too), "the person never entered"


def test_exported_weights_draw_what_the_run_draws(weights, photos, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(run_file(tmp_path).model_dump(mode="json")))
    red = ["--reference", str(photos / "red.png")]
    generate(weights / "run", tmp_path / "run", *red)
    generate(weights / "native.safetensors", tmp_path / "native", *red)
    generate(weights / "diffusers.safetensors", tmp_path / "diffusers", *red, "--config", str(config))
    drawn = pixels(tmp_path / "run/0000.png")
    for name in ("native", "diffusers"):
        assert np.abs(pixels(tmp_path / name / "0000.png") - drawn).max() <= 1


def test_identity_in_the_prompt_wants_a_class_word(photos, tmp_path):
    run, base = run_file(tmp_path, "photomaker", lora=None), load_base(BaseConfig(), clip=True)
    adapter = load_adapter(run.adapter, base)
    save(tmp_path / "run", Meta(step=1, run=run, data="none"), {"weights": collect(base, adapter, frozenset())})
    red = ["--reference", str(photos / "red.png")]
    with pytest.raises(InputError, match=r"^--prompt: 'a portrait': photomaker finds no class word"):
        generate(tmp_path / "run", tmp_path, *red, prompt="a portrait")
    for name, prompt in {"class word": "a portrait of a cook", "trigger": "a portrait of a cook img"}.items():
        more = ["--class-word", "cook"] if name == "class word" else []
        generate(tmp_path / "run", tmp_path / name, *red, *more, prompt=prompt)
    one, other = (pixels(tmp_path / name / "0000.png") for name in ("class word", "trigger"))
    assert np.array_equal(one, other)


WRONG = {
    "no reference": ([], "--reference: ip_adapter makes pictures of somebody: name a photo or more"),
    "too many": (["--reference", *["{photos}/red.png"] * 5], "--reference: 5 photos, this adapter takes 4"),
    "no face": (["--reference", "{photos}/dark.png"], "reference: {photos}/dark.png: no face found"),
    "no photo": (["--reference", "{photos}/text.jpg"], "reference: {photos}/text.jpg: not a photo that can be used"),
    "missing": (["--reference", "{photos}/none.jpg"], "reference: {photos}/none.jpg: No such file or directory"),
    "side": (["--reference", "{photos}/red.png", "--size-px", "30"], "--size-px: 30 is no multiple of 8"),
    "steps": (["--steps", "0"], "--steps: 0 is less than 1"),
    "guidance": (["--guidance", "nan"], "--guidance: nan is less than 1"),
    "merge step": (["--merge-step", "3"], "--merge-step: 3 is not in 0 … 2"),
    "scale": (["--scale", "identity"], "--scale: identity: expected NAME=X"),
    "other scale": (["--reference", "{photos}/red.png", "--scale", "body=1"], "scale: body: this adapter has no such"),
    "class word": (["--class-word", "cat"], "prompt: 'a photo of a woman in red': the class word 'cat'"),
    "config": (["--config", "x.yaml", "--reference", "{photos}/red.png"], "--config: {weights}/run is a run"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_and_nothing_is_written(weights, photos, tmp_path, name):
    arguments, message = WRONG[name]
    with pytest.raises(InputError) as error:
        generate(weights / "run", tmp_path, *[argument.format(photos=photos) for argument in arguments])
    assert str(error.value).startswith(message.format(photos=photos, weights=weights))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_weights_that_cannot_be_used_are_one_line(weights, photos, tmp_path):
    red = ["--reference", str(photos / "red.png")]
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes((weights / "native.safetensors").read_bytes()[:200])
    bare = tmp_path / "bare.bin"
    torch.save({"image_proj": {}}, bare)
    for file, message in (
        (tmp_path / "none", "no such run, checkpoint or file"), (tmp_path, "no checkpoint here"),
        (torn, "not a weights file"), (bare, "names no run file: say --config RUN.yaml"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"^{file}: {message}"):
            generate(file, tmp_path, *red)


def test_a_reference_is_cut_as_the_dataset_s_filter_cuts_it(photos):
    content = (photos / "red.png").read_bytes()
    config = FilterConfig()
    sample = Portraits(config).cut(str(photos / "red.png"))
    picture = Image.open(io.BytesIO(content))
    photo = Photo("0" * 32, "0" * 16, "red.png", "0" * 64, len(content))
    scanned = Scanned(photo, Measures(180, 200, 1.0, 0.5, 0, 0), (FACE,), 1)
    portrait = cut(picture, scanned, Verified(0, 1.0, ()), config)
    assert (sample.image_jpeg, sample.face_jpeg) == (portrait.image_jpeg, portrait.face_jpeg)
    assert [tuple(point) for point in sample.metadata["landmarks_px"]] == list(portrait.landmarks_px)
    assert tuple(sample.metadata["face_xyxy_px"]) == portrait.face_xyxy_px


def test_a_real_face_is_found_by_the_embedded_detector(weights, shared, tmp_path, monkeypatch):
    monkeypatch.undo()
    photo = min((shared / "photos/identities").rglob("*480p*"))
    assert generate(weights / "run", tmp_path, "--reference", str(photo)) == 0
    with pytest.raises(InputError, match=r"0000.png: no face found \(by the detector embedded\)"):
        generate(weights / "run", tmp_path, "--reference", str(tmp_path / "0000.png"))
