"""Batches from shards: what is in them, that they depend on a counter only, and what is refused before training."""

import dataclasses
import io
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from crawl.errors import InputError
from shards.encoders.config import BaseConfig, EncodeRun, FeatureName
from shards.features.encode import encode
from shards.format.tar import ShardError
from shards.read import Dataset
from train.adapters.adapter import Needs
from train.base_models import load_base
from train.data.draws import Draws
from train.data.groups import kept_back
from train.data.references import others
from train.step import masked_mean

ALL = get_args(FeatureName)
TEXT = Needs(text=("general",))


class Quiet:
    def expect(self, stage, photos): ...

    def tick(self, stage, photos): ...


def encoded(url, features=ALL, size_px=32, **settings):
    run = {"data": {"dataset": url, "size_px": size_px}, "encode": {"features": features, **settings}}
    return list(encode(EncodeRun.model_validate(run), Quiet()))


def tensors(value, name=""):
    """Every tensor in a batch, by name."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in tensors(item, f"{name}[{key}]").items()}
    if dataclasses.is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {k: v for key, item in parts.items() for k, v in tensors(item, f"{name}.{key}").items()}
    return {}


def differences(one, other):
    """Greatest difference of each tensor; names that stand in one batch only are the test's failure."""
    ones, others = tensors(one), tensors(other)
    assert ones.keys() == others.keys()
    gaps = {name: (ones[name].double() - others[name].double()).abs() for name in ones}
    return {name: float(gap.max()) if gap.numel() else 0.0 for name, gap in gaps.items()}


def photo(url, key):
    return Dataset(url).sample(key)


def pixels(jpeg, side=None):
    image = Image.open(io.BytesIO(jpeg))
    image = image if side is None else image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=1.0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def data(people, train_data):
    return train_data(people, size_px=32, masked_loss=0.5)


@pytest.fixture(scope="module")
def batch(data):
    return data.batch(2, range(6), 6)


def test_shapes(batch, base):
    width = base.face.width
    shapes = {name: list(tensor.shape) for name, tensor in tensors(batch).items()}
    assert shapes == {
        ".latents": [6, 4, 8, 8], ".time_ids": [6, 6], ".face_mask": [6, 1, 8, 8], ".masked_loss": [6],
        ".keypoints": [6, 12, 3],
        **{f".drop.{name}": [6] for name in ("text", "identity", "background", "body")},
        **{f".prompts.states[{part}].hidden": [6, 77, 64] for part in ("general", "background", "body")},
        **{f".prompts.states[{part}].pooled": [6, 32] for part in ("general", "background", "body")},
        ".prompts.states[].hidden": [1, 77, 64], ".prompts.states[].pooled": [1, 32],
        ".references.present": [6, 4], ".references.faces": [6, 4, 3, 40, 40],
        ".references.clip.last": [6, 4, 17, 32], ".references.clip.penultimate": [6, 4, 17, 32],
        ".references.clip.pooled": [6, 4, 32], ".references.clip.scales": [6, 4, 5, 17, 32],
        ".references.embeddings": [6, 4, width],
        ".references.bodies": [6, 4, 3, 32, 32], ".references.keypoints": [6, 4, 12, 3],
    }  # fmt: skip
    assert batch.indices == tuple(range(12, 18))
    assert {tensor.dtype for name, tensor in tensors(batch).items() if "latents" in name} == {torch.float32}


def test_what_stands_in_a_batch_is_of_its_photos(batch, people, base):
    for row, key in enumerate(batch.keys):
        sample = photo(people, key)
        metadata = sample.metadata
        assert batch.identities[row] == sample.identity
        assert [batch.prompts.general[row], batch.prompts.background[row], batch.prompts.body[row]] == [
            metadata["general"], metadata["background"], metadata["body"]
        ]  # fmt: skip
        assert batch.prompts.trigger_position[row] == 19
        assert batch.time_ids[row].tolist() == [metadata["original_size"][0], 200, 8, 4, 32, 32], "crop at half size"
        with torch.no_grad():
            stats = base.vae.stats(pixels(sample.image_jpeg, 32)[None])
            states = base.text.encode([metadata["body"]])
        noise = Draws(0).normal("posterior", 2, [12 + row], (4, 8, 8))
        assert (batch.latents[row] - base.vae.latents(stats, noise)[0]).abs().max() < 2e-6
        assert (batch.prompts.states["body"].hidden[row] - states.hidden[0]).abs().max() < 2e-6
        for slot, other in enumerate(batch.references.keys[row]):
            reference = photo(people, other)
            assert reference.identity == sample.identity
            assert torch.equal(batch.references.faces[row, slot], pixels(reference.face_jpeg))
            assert torch.equal(batch.references.bodies[row, slot], pixels(reference.image_jpeg, 32))
            with torch.no_grad():
                last = base.clip(pixels(reference.face_jpeg)[None]).last[0]
            assert (batch.references.clip.last[row, slot] - last).abs().max() < 2e-6
            landmarks = [tuple(p) for p in reference.metadata["landmarks_px"]]
            face = base.face.embed(np.array(Image.open(io.BytesIO(reference.image_jpeg))), landmarks)
            assert torch.equal(batch.references.embeddings[row, slot], face)


def test_absent_slots_are_zero(batch):
    present = batch.references.present
    assert present.sum(1).tolist() == [len(keys) for keys in batch.references.keys]
    assert 0 < present.float().mean() < 1, "ragged"
    for name, tensor in tensors(batch.references).items():
        if name != ".present":
            assert not tensor[~present].any()
            assert tensor[present].flatten(1).any(1).all()


def test_the_same_for_every_split_into_ranks_and_micro_batches(data, batch):
    for parts in ([range(1), range(1, 4), range(4, 6)], [range(row, row + 1) for row in range(6)]):
        pieces = [data.batch(2, rows, 6) for rows in parts]
        assert tuple(key for piece in pieces for key in piece.keys) == batch.keys
        whole = tensors(batch)
        for name, tensor in whole.items():
            if "[]" not in name:
                assert torch.equal(torch.cat([tensors(piece)[name] for piece in pieces]), tensor), name


def test_another_seed_draws_otherwise_and_the_digest_says_what_is_drawn(train_data, people, data):
    other = train_data(people, size_px=32, masked_loss=0.5, seed=1)
    assert other.batch(2, range(6), 6).keys != data.batch(2, range(6), 6).keys
    same = train_data(people, size_px=32, masked_loss=0.5, prefetch=0, features="online", needs=TEXT)
    assert same.digest == data.digest
    for change in (
        {"size_px": 64},
        {"masked_loss": 0.4},
        {"holdout": 0.3},
        {"references": (1, 2)},
        {"drop": {"text": 0.1}},
    ):
        assert train_data(people, **{"size_px": 32, "masked_loss": 0.5, **change}, needs=TEXT).digest != data.digest


def test_masks_cover_the_face_box_and_a_whole_box_is_the_plain_loss(batch, train_data, write_people, tmp_path):
    mask = batch.face_mask[0, 0]  # box 20, 10, 40.5, 35 of 64 px on 8 cells of 8 px
    assert mask[1:5, 2:6].all()
    assert mask.sum() == 16
    boxes = {0: [0, 0, 64, 64], 1: [-5.0, -9.0, 70.2, 90.0], 2: [63.9, 63.9, 64, 64], 3: [30.0, 30.0, 30.0, 30.0]}
    url = write_people(tmp_path / "boxes", (4, 2), lambda person, number: {"face_xyxy_px": boxes[number]})
    data = train_data(url, size_px=32, needs=TEXT)
    found = data.batch(0, range(6), 6)
    numbers = [photo(url, key).metadata["original_size"][0] - 300 for key in found.keys]
    sums = {number: int(mask.sum()) for number, mask in zip(numbers, found.face_mask, strict=True)}
    assert sums == {0: 64, 1: 64, 2: 1, 3: 1}
    squared = torch.rand(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = found.face_mask.flatten(1).all(1)
    everything = torch.ones(6, dtype=torch.bool)
    masked, plain = (masked_mean(squared, found.face_mask, coin) for coin in (everything, ~everything))
    assert torch.equal(masked[whole], plain[whole])
    assert not torch.equal(masked[~whole], plain[~whole])


def test_coins_are_a_sample_s_own_and_come_as_often_as_they_should(train_data, people):
    drop = {"text": 0.2, "identity": 0.1, "both": 0.05, "parts": 0.3}
    data = train_data(people, size_px=32, masked_loss=0.5, drop=drop, needs=Needs())
    drops = [data._dropped(step, range(20 * step, 20 * step + 20)) for step in range(200)]
    names = ("text", "identity", "background", "body")
    text, identity, background, body = (torch.cat([getattr(d, name) for d in drops]) for name in names)
    shares = [(text & ~identity), (identity & ~text), (text & identity), background, body, (background & body)]
    for share, chance in zip(shares, [0.2, 0.1, 0.05, 0.3, 0.3, 0.09], strict=True):
        assert abs(float(share.float().mean()) - chance) < 4 * (chance * (1 - chance) / 4000) ** 0.5
    assert sum(bool(d.text.any() and not d.text.all()) for d in drops) > 150, "per sample, not per batch"
    batch = data.batch(3, range(20), 20)
    assert max(differences(batch.drop, data._dropped(3, range(60, 80))).values()) == 0
    assert 2 < batch.masked_loss.sum() < 18


def test_held_out_is_always_the_same_and_nothing_of_it_is_dropped(train_data, people):
    drop, needs = {"text": 0, "identity": 0, "both": 1.0}, Needs(references=True, clip=True)
    data = train_data(people, needs, size_px=32, holdout=0.34, masked_loss=1.0, drop=drop)
    batch = data.held_out(5)
    assert max(differences(batch, data.held_out(5)).values()) == 0
    assert not (batch.drop.text | batch.drop.identity | batch.masked_loss).any()
    assert len(set(batch.identities[:4])) == 4
    trained = {key for step in range(12) for key in data.batch(step, range(6), 6).keys}
    assert not trained & set(batch.keys)
    assert {key for keys in batch.references.keys for key in keys} <= trained


def test_swapped_gives_each_sample_the_references_of_another_person(data, batch):
    swapped = data.swapped(batch)
    owner = {key: who for who, keys in zip(batch.identities, batch.references.keys, strict=True) for key in keys}
    for who, keys in zip(batch.identities, swapped.references.keys, strict=True):
        assert owner[keys[0]] != who
    same = differences(batch.replace(references=swapped.references), swapped)
    assert max(same.values()) == 0, "targets, prompts and all else stay"
    for row, keys in enumerate(swapped.references.keys):
        source = batch.references.keys.index(keys)
        for name, tensor in tensors(batch.references).items():
            assert torch.equal(tensors(swapped.references)[name][row], tensor[source]), name
    with pytest.raises(InputError, match="one person alone"):
        data.swapped(batch.replace(identities=("x",) * 6))


def test_everybody_is_compared_with_ever_other_people():
    people = ["a", "b", "c", "d"] * 3
    order = others(people)
    met = {who: {people[order[row]] for row in range(12) if people[row] == who} for who in "abcd"}
    assert met == {who: set("abcd") - {who} for who in "abcd"}
    assert others(["a", "a", "b"]) == [2, 2, 0]


def test_cached_is_online_to_the_bit_in_float32_and_rounded_in_float16(tmp_path, write_people, train_data):
    url = write_people(tmp_path / "dataset", (3, 4))
    online = train_data(url, size_px=32, features="online")
    encoded(url)
    cached, auto = (train_data(url, size_px=32, features=mode) for mode in ("cached", "auto"))
    assert (len(cached.summary.cached), dict(cached.summary.online)) == (9, {})
    assert auto.summary.cached == cached.summary.cached
    for step in range(2):
        found = differences(online.batch(step, range(5), 5), cached.batch(step, range(5), 5))
        assert max(found.values()) == 0, found
    assert max(differences(online.held_out(6), cached.held_out(6)).values()) == 0
    before = online.digest
    encoded(url, ("latents", "clip_last", "text_general"), dtype="float16")
    half = train_data(url, size_px=32)
    found = differences(online.batch(0, range(6), 6), half.batch(0, range(6), 6))
    assert 0 < max(found.values()) < 5e-3, found
    assert half.digest != before, "rounded features are other data"


def test_features_decide_one_by_one_and_an_untrue_one_is_not_used(tmp_path, write_people, train_data):
    url = write_people(tmp_path / "dataset", (3, 3))
    encoded(url, ("latents", "clip_pooled"))
    pooled = Needs(references=True, clip=True, clip_states=("pooled",), text=("general",))
    data = train_data(url, size_px=32, needs=pooled)
    assert data.summary.cached == ("latents", "clip_pooled")
    clip = data.batch(0, range(2), 2).references.clip
    assert [list(state.shape) for state in clip.fields] == [[2, 4, 0, 0], [2, 4, 0, 0], [2, 4, 32], [2, 4, 0, 0, 0]]
    online = train_data(url, size_px=32, needs=pooled, features="online").batch(0, range(2), 2)
    assert max(differences(online, data.batch(0, range(2), 2)).values()) == 0
    other = train_data(url, size_px=32, needs=pooled, base=load_base(BaseConfig(seed=1), clip=True))
    assert other.summary.cached == ()
    assert "made by tiny vae, seed 0 than tiny vae, seed 1" in other.summary.online["latents"]
    with pytest.raises(
        InputError,
        match=r"features/text_general: missing: run python -m shards encode .* encode.features=text_general$",
    ):
        train_data(url, size_px=32, needs=pooled, features="cached")
    with pytest.raises(InputError, match=r"crops of 32 px, not 64 px: run .*latents,text_general data.size_px=64"):
        train_data(url, needs=pooled, features="cached")


def test_a_vae_that_is_fitted_meanwhile_makes_cached_latents_untrue(tmp_path, write_people, train_data):
    url = write_people(tmp_path / "dataset", (3, 3))
    encoded(url, ("latents",))
    base = load_base(BaseConfig())
    data = train_data(url, size_px=32, needs=TEXT, base=base)
    before = data.batch(0, range(2), 2)
    assert data.summary.cached == ("latents",)
    with torch.no_grad():
        for parameter in base.vae.parameters():
            parameter.mul_(1.1)
    after = data.batch(0, range(2), 2)
    assert data.summary.cached == ()
    assert torch.equal(
        after.latents,
        train_data(url, size_px=32, needs=TEXT, base=base, features="online").batch(0, range(2), 2).latents,
    )
    assert not torch.equal(after.latents, before.latents)


UNKNOWN = {"keypoints": [[0.0, 0.0]] * 12, "keypoint_scores": [0.0] * 12, "keypoints_reason": "no_body"}


def test_bodies_without_pose_have_no_visible_keypoints(tmp_path, write_people, train_data):
    def poses(person, number):
        if number == 0:
            return UNKNOWN
        return {"keypoints": [[-3.0, 9.0], [16.0, 32.0], [9.0, 70.0], *[[32.0, 64.0]] * 9]}

    data = train_data(write_people(tmp_path / "some", (3, 2), poses), size_px=32, needs=Needs(keypoints=True))
    found = {tuple(points[1].tolist()) for points in data.batch(0, range(5), 5).keypoints}
    assert found == {(0, 0, 0), (0.25, 0.5, 0.5)}
    points = next(p for p in data.batch(0, range(5), 5).keypoints if p.any())
    assert not points[0].any(), "outside to the left"
    assert not points[2].any(), "outside below"
    assert points[3].tolist() == [0.5, 1.0, 0.5]


REFUSED = {
    "general": ({"general": " "}, Needs(), r"{key}: general is empty, and the adapter needs this part"),
    "body": ({"body": ""}, Needs(parts=("general", "body")), r"{key}: body is empty, and the adapter"),
    "background": ({"background": ""}, Needs(parts=("background",)), r"{key}: has no background, nor has any other"),
    "landmarks": ({"landmarks_px": []}, Needs(face=True), r"{key}: has no landmarks_px, and the adapter needs"),
    "keypoints": (UNKNOWN, Needs(keypoints=True), r"{key}: has no keypoints \(no_body\), nor has any"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_dataset_cannot_give_is_refused_by_key_and_field(tmp_path, write_people, train_data, name):
    changes, needs, message = REFUSED[name]
    url = write_people(tmp_path / "dataset", (2, 2), lambda person, number: changes)
    first = Dataset(url).index.keys[0].decode()
    with pytest.raises(InputError, match=f"^data.dataset: {url}: " + message.format(key=first)):
        train_data(url, needs=needs)


def test_a_plain_background_here_and_there_is_no_fault(tmp_path, write_people, train_data):
    url = write_people(tmp_path / "dataset", (2, 2), lambda person, number: {"background": "a wall" if number else ""})
    train_data(url, size_px=32, needs=Needs(parts=("general", "background")))


def test_people_with_one_photo_are_counted_and_nobody_left_is_an_error(tmp_path, write_people, train_data):
    url = write_people(tmp_path / "dataset", (1, 4, 1, 2))
    data = train_data(url, size_px=32, needs=Needs(references=True), features="online")
    assert data.summary.lines() == [
        f"{url}: 6 photos of 2 people, 0 more held out",
        "2 people with a single photo cannot serve and are left out",
        "latents is encoded online: data.features: online",
    ]
    alone = write_people(tmp_path / "alone", (1, 1))
    with pytest.raises(
        InputError, match=f"^data.dataset: {alone}: nobody with two photos or more: nothing to train on$"
    ):
        train_data(alone, size_px=32, needs=Needs(references=True))
    assert train_data(alone, size_px=32, needs=TEXT).summary.targets == 2


def test_a_size_the_vae_cannot_take_and_a_missing_dataset_are_one_line(people, train_data):
    with pytest.raises(InputError, match=r"^data.size_px: 33 is no multiple of 4"):
        train_data(people, size_px=33, needs=TEXT)
    with pytest.raises(InputError, match=r"nowhere/shards/index.json: not found: no finished dataset there"):
        train_data("nowhere")


def damage(url, count):
    """Flip a byte in the last `count` tars; their names."""
    index = Dataset(url).index
    for shard in index.shards[-count:]:
        path = f"{url}/shards/{shard.file}"
        with open(path, "r+b") as file:
            file.seek(700)
            byte = file.read(1)
            file.seek(700)
            file.write(bytes([byte[0] ^ 1]))
    return [shard.file for shard in index.shards[-count:]]


def test_a_bad_shard_is_named_or_left_out_up_to_a_thousandth(tmp_path, write_people, train_data, monkeypatch):
    url = write_people(tmp_path / "dataset", (4, 4, 4), max_bytes=9_000)
    (bad,) = damage(url, 1)
    with pytest.raises(ShardError, match=f"shards/{bad}: is damaged"):
        train_data(url, needs=TEXT)
    with pytest.raises(InputError, match=rf"shards/{bad}: is damaged.*; \d of 12 photos are lost, at most 0.1 %"):
        train_data(url, needs=TEXT, on_bad_shard="skip")
    monkeypatch.setattr("train.data.survey.MOST_LOST", 0.4)
    data = train_data(url, size_px=32, needs=Needs(references=True), on_bad_shard="skip")
    lost = data.summary.lost
    assert data.summary.targets == 12 - lost < 12
    whole = [data.batch(step, range(4), 4) for step in range(6)]
    index = Dataset(url).index
    gone = {index.keys[p].decode() for p in index.positions_in(len(index.shards) - 1)}
    assert not gone & {k for batch in whole for keys in (batch.keys, *batch.references.keys) for k in keys}
    assert (
        data.digest
        != train_data(write_people(tmp_path / "whole", (4, 4, 4), max_bytes=9_000), size_px=32, needs=TEXT).digest
    )


def test_a_photo_that_does_not_decode_is_named_with_its_shard(tmp_path, write_people, train_data, monkeypatch):
    url = write_people(tmp_path / "dataset", (2, 2))
    data = train_data(url, size_px=32, needs=TEXT)
    monkeypatch.setattr(
        "train.data.photos.Photo.sample",
        property(lambda photo: dataclasses.replace(photo._read(), image_jpeg=b"\xff\xd8")),
    )
    with pytest.raises(ShardError, match=r"shards/0000\d-00\d.tar: [0-9a-f]{32}.jpg does not decode: format$"):
        data.batch(0, range(2), 2)


def test_people_kept_back_are_in_no_batch_and_the_digest_says_so(train_data, people):
    everybody = set(Dataset(people).identities)
    share = next(s / 20 for s in range(1, 20) if 0 < sum(kept_back(who, s / 20) for who in everybody) < len(everybody))
    some = train_data(people, TEXT, size_px=32, holdout_people=share)
    batch = some.batch(0, range(40), 40)
    assert set(batch.identities) == {who for who in everybody if not kept_back(who, share)}
    assert set(some.held_out(8).identities) == set(batch.identities)
    assert some.digest != train_data(people, TEXT, size_px=32).digest
