"""Cached features: true copies of what the encoders say, resumable by tar, and never taken for what they are not."""

import json
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from crawl.errors import InputError
from shards.__main__ import main
from shards.encoders.config import BaseConfig, EncodeRun, FeatureName, encode_run
from shards.encoders.inputs import as_tensor, crop_image, face_image, resized
from shards.encoders.load import load_clip, load_face, load_text, load_vae
from shards.features.digest import encoder_digest, stamps
from shards.features.encode import encode
from shards.features.feature import Feature, feature_output
from shards.format.tar import ShardError
from shards.read import Dataset

ALL = get_args(FeatureName)


class Counter:
    """Photos seen, by encoder; raises after `stop` of them."""

    def __init__(self, stop=None):
        self.seen, self.expected, self._stop = {}, {}, stop

    def expect(self, stage, photos):
        self.expected[stage] = photos

    def tick(self, stage, photos):
        self.seen[stage] = self.seen.get(stage, 0) + photos
        if self._stop is not None and sum(self.seen.values()) >= self._stop:
            raise KeyboardInterrupt


def run_of(output, *features, size_px=32, dtype="float32", seed=0):
    return EncodeRun.model_validate(
        {
            "data": {"dataset": output.url, "size_px": size_px},
            "base": {"seed": seed},
            "encode": {"features": features, "dtype": dtype},
        }
    )


def made(output, *features, **settings):
    counter = Counter()
    list(encode(run_of(output, *features, **settings), counter))
    return counter


def opened(output, feature, encoder=None, size_px=32):
    encoder = encoder or load_vae(BaseConfig())
    wanted = stamps({feature: encoder}, BaseConfig(), size_px)[feature]
    return Feature(output.url, wanted, Dataset(output.url).index)


def files(output, feature):
    folder = feature_output(output.url, feature)
    return {name: folder.read(name) for name in folder.names("")}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, write_dataset):
    """A dataset of 16 samples in several tars, with every feature."""
    output, samples = write_dataset(tmp_path_factory.mktemp("encoded") / "dataset")
    made(output, *ALL)
    return output, samples


def test_features_are_what_the_encoders_say_of_each_sample_alone(encoded):
    output, samples = encoded
    config, index = BaseConfig(), Dataset(output.url).index
    vae, clip, text, face = load_vae(config), load_clip(config), load_text(config), load_face(config)
    for sample in samples[::5]:
        position = index.position(sample.key)
        crop, closeup = crop_image(sample, ""), as_tensor(face_image(sample, ""))[None]
        with torch.no_grad():
            expected = {
                "latents": (vae, vae.stats(as_tensor(resized(crop, 32))[None])[0]),
                "clip_last": (clip, clip(closeup).last[0]),
                "clip_penultimate": (clip, clip(closeup).penultimate[0]),
                "clip_scales": (clip, clip(closeup).scales[0]),
                "clip_pooled": (clip, clip(closeup).pooled[0]),
                "face": (face, face.embed(crop, sample.metadata["landmarks_px"])),
                "text_general": (text, text.encode([sample.metadata["general"]]).hidden[0]),
                "text_background": (text, text.encode([""]).hidden[0]),
                "text_body": (text, text.encode(["in a red coat"]).hidden[0]),
            }
        for name, (encoder, value) in expected.items():
            found = opened(output, name, encoder).arrays(position)[name]
            assert found.shape == value.shape
            difference = np.abs(found - value.numpy()).max()
            assert difference < 2e-6, (name, difference)  # batches of one and of four may sum in another order
        pooled = opened(output, "text_body", text).arrays(position)["text_body_pooled"]
        assert np.abs(pooled - text.encode(["in a red coat"]).pooled[0].detach().numpy()).max() < 2e-6


def test_the_same_run_does_nothing_and_the_same_dataset_gives_the_same_bytes(encoded, tmp_path):
    output, _ = encoded
    assert made(output, *ALL).seen == {}
    before = files(output, "latents"), files(output, "text_general")
    copy = tmp_path / "copy"
    shutil.copytree(output.path(""), copy, ignore=lambda folder, names: {"features"} & set(names))
    other = type(output)(str(copy))
    made(other, "latents", "text_general")
    assert (files(other, "latents"), files(other, "text_general")) == before


@pytest.mark.parametrize("stop", [1, 5, 12])
def test_an_interrupted_run_goes_on_and_ends_as_if_nothing_had_happened(encoded, tmp_path, write_dataset, stop):
    output, samples = write_dataset(tmp_path / "dataset")
    with pytest.raises(KeyboardInterrupt):
        list(encode(run_of(output, "latents"), Counter(stop)))
    with pytest.raises(InputError, match="unfinished"):
        opened(output, "latents")
    left = files(output, "latents")
    finished = json.loads(left["made_from.json"])["shards"]
    assert set(left) == {"made_from.json", *finished}, "nothing half-written, nothing unlisted"
    again = made(output, "latents")
    assert (
        again.seen["vae"]
        == again.expected["vae"]
        == len(samples) - sum(shard.samples for shard in Dataset(output.url).index.shards if shard.file in finished)
    )
    assert files(output, "latents") == files(encoded[0], "latents")


def test_a_feature_is_refused_for_another_encoder_size_or_dataset_and_made_anew(tmp_path, write_dataset):
    output, _ = write_dataset(tmp_path / "dataset")
    made(output, "latents")
    with pytest.raises(InputError, match="latents: made by other weights than tiny vae, seed 0"):
        opened(output, "latents", load_vae(BaseConfig(seed=1)))
    with pytest.raises(InputError, match="made from crops of 32 px, not 48 px"):
        opened(output, "latents", size_px=48)
    with pytest.raises(InputError, match="features/clip_last: missing"):
        opened(output, "clip_last")
    assert made(output, "latents", seed=1).seen["vae"] == 16
    assert made(output, "latents", size_px=48, seed=1).seen["vae"] == 16
    assert opened(output, "latents", load_vae(BaseConfig(seed=1)), size_px=48).made_from.size_px == 48


def test_only_tars_of_changed_buckets_are_made_anew(tmp_path, write_dataset):
    output, _ = write_dataset(tmp_path / "dataset", counts=((3, 2, 4), (2, 5)))
    made(output, "clip_pooled")
    kept = {name: content for name, content in files(output, "clip_pooled").items() if name.startswith("00000")}
    write_dataset(tmp_path / "dataset", counts=((3, 2, 4), (2, 4)))
    with pytest.raises(InputError, match=r"clip_pooled: not made from 00001-00\d.tar as it is now"):
        opened(output, "clip_pooled", load_clip(BaseConfig()))
    assert made(output, "clip_pooled").seen == {"clip": 4}
    write_dataset(tmp_path / "dataset", counts=((3, 2, 4), (2,)))
    assert made(output, "clip_pooled").seen == {}, "one person less: their tar is removed"
    after = files(output, "clip_pooled")
    assert kept.items() <= after.items()
    tars = {shard.file for shard in Dataset(output.url).index.shards}
    assert set(after) == tars | {"index.json", "made_from.json"}, "tars of the dataset's former ones are gone"


def test_half_precision_halves_the_bytes_and_rounds(encoded, tmp_path, write_dataset):
    output, samples = write_dataset(tmp_path / "dataset")
    made(output, "latents", dtype="float16")
    index = Dataset(output.url).index
    position = index.position(samples[3].key)
    half, whole = (opened(o, "latents").arrays(position)["latents"] for o in (output, encoded[0]))
    assert half.dtype == whole.dtype == np.float32
    assert 0 < np.abs(half - whole).max() <= np.abs(whole).max() * 2**-11
    assert made(output, "latents", dtype="float16").seen == {}
    assert made(output, "latents").seen["vae"] == len(samples), "the other dtype is another cache"


def test_what_a_dtype_cannot_hold_is_refused(tmp_path, write_dataset, monkeypatch):
    output, _ = write_dataset(tmp_path / "dataset", counts=((1,), ()))
    monkeypatch.setattr(
        "shards.features.encode.latent_stats", lambda vae, images: torch.full((len(images), 8, 8, 8), 1e6)
    )
    with pytest.raises(InputError, match=r"[0-9a-f]{32}: latents is not finite in float16"):
        made(output, "latents", dtype="float16")
    assert files(output, "latents").keys() == {"made_from.json"}


def test_a_damaged_feature_tar_is_named(tmp_path, write_dataset):
    output, _ = write_dataset(tmp_path / "dataset")
    made(output, "latents")
    tar = tmp_path / "dataset/features/latents" / Dataset(output.url).index.shards[0].file
    content = bytearray(tar.read_bytes())
    content[900] ^= 1
    tar.write_bytes(bytes(content))
    with pytest.raises(ShardError, match=r"features/latents/00000-000.tar: is damaged"):
        opened(output, "latents").arrays(0)


def test_the_digest_is_of_weights_settings_and_vocabulary():
    vae, text = load_vae(BaseConfig()), load_text(BaseConfig())
    before = encoder_digest(vae), encoder_digest(text)
    assert encoder_digest(vae.bfloat16()) == before[0], "a base in bfloat16 finds what float32 made"
    with torch.no_grad():
        next(vae.parameters()).view(-1)[0] += 0.5
    text.penultimate = False
    assert encoder_digest(vae) != before[0]
    assert encoder_digest(text) != before[1]


def test_a_base_of_other_classes_from_a_folder(tmp_path, write_dataset):
    output, samples = write_dataset(tmp_path / "dataset", counts=((2,), ()))
    text, folder = load_text(BaseConfig()), tmp_path / "sd15"
    text.models[0].save_pretrained(folder / "text_encoder")
    text.tokenizers[0].save_pretrained(folder / "tokenizer")
    settings = {"data": {"dataset": output.url, "size_px": 32}, "encode": {"features": "text_body"}}
    base = BaseConfig(family="sd15", weights=str(folder))
    lines = list(encode(EncodeRun.model_validate({**settings, "base": base}), Counter()))
    assert lines[0].endswith(f"text_body: 2 samples, 0.0 MB, float32, by {folder} text")
    wanted = stamps({"text_body": load_text(base)}, base, 32)["text_body"]
    found = Feature(output.url, wanted, Dataset(output.url).index).arrays(0)
    assert found.keys() == {"text_body"}, "no pooled vector"
    with torch.no_grad():
        tokens = text.ids([samples[0].metadata["body"]])[0]
        assert np.abs(found["text_body"] - text.models[0](tokens).last_hidden_state[0].numpy()).max() < 2e-6


def test_other_commands_do_not_wait_for_torch():
    code = "import shards.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command(tmp_path, write_dataset, capsys):
    output, _ = write_dataset(tmp_path / "dataset")
    config = tmp_path / "train.yaml"
    config.write_text(f"output: out\ndata: {{dataset: {output.url}, size_px: 32, holdout: 0.2}}\nloop: {{steps: 3}}\n")
    assert main(["encode", str(config), "encode.features=latents"]) == 0
    assert capsys.readouterr().out.endswith("features/latents: 16 samples, 0.1 MB, float32, by tiny vae, seed 0\n")
    assert main(["encode", output.url, "data.size_px=32", "encode.features=latents"]) == 0
    assert capsys.readouterr().out.endswith("features/latents: there already, by tiny vae, seed 0\n")
    assert encode_run(output.url, []).encode.features == ("latents", "clip_pooled", "text_general")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode.features=latent"], r"encode.features.0: Input should be 'latents'"),
        (["encode.feature=[latents]"], r"encode.feature: unknown key \(did you mean features\?\)"),
        (["data.size_px=34", "encode.features=latents"], "data.size_px: 34 is no multiple of 4"),
        (["base.family=sdxl"], "base: weights: name the pipeline's folder or hub name"),
        (["encode.device=abacus", "encode.features=latents"], "encode.device: abacus: Expected one of cpu"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, write_dataset, arguments, message):
    output, _ = write_dataset(tmp_path / "dataset", counts=((2,), ()))
    with pytest.raises(InputError, match=message):
        main(["encode", output.url, *arguments])
    assert not (tmp_path / "dataset/features").exists()
