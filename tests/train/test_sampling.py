"""Sampling: what diffusers' own pipeline draws, from the same seed; identity, guidance and scales where they belong."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline
from torch import nn

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.adapter import Adapter, Conditions, Needs, Stream
from train.adapters.attention import install_streams
from train.adapters.settings import NoAdapterSettings
from train.base_models import load_base
from train.data.batch import Batch, Drop, References
from train.sampling import Sampling, encoded, noise_of, sample

PX = 32
TEXT = Needs(text=("general",))


class Told(Adapter):
    """Two tokens a sample, made of its references' embeddings: the least that carries an identity."""

    kind = "told"

    def __init__(self, base):
        super().__init__(NoAdapterSettings(), base)
        self.layers = nn.ModuleList(install_streams(base, ["identity"]).values())
        self.asked = []

    @classmethod
    def needs(cls, settings):
        return TEXT

    def conditions(self, batch):
        self.asked.append((batch.prompts.general[0], bool(batch.drop.text[0]), bool(batch.drop.identity[0])))
        states = batch.prompts.states
        text = states["general"].where(~batch.drop.text, states[""])
        stream = Stream(batch.references.embeddings.unflatten(-1, (2, -1))[:, 0], present=~batch.drop.identity)
        return Conditions(text.hidden, text.pooled, batch.time_ids, {"identity": stream})


def batch_of(base, texts, seed=0):
    size = len(texts)
    embeddings = torch.randn(size, 1, 2 * base.context_width, generator=torch.Generator().manual_seed(seed))
    return Batch(
        0, tuple(range(size)), ("",) * size, ("",) * size,
        latents=torch.zeros(size, 4, PX // 4, PX // 4),
        time_ids=torch.tensor([[PX, PX, 0, 0, PX, PX]] * size, dtype=torch.float32),
        prompts=encoded(base, TEXT, texts, [""] * size, [""] * size),
        references=References((("",),) * size, torch.ones(size, 1, dtype=torch.bool), embeddings=embeddings),
        drop=Drop.none(size),
        face_mask=torch.ones(size, 1, PX // 4, PX // 4),
        masked_loss=torch.zeros(size, dtype=torch.bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return load_base(BaseConfig())


@pytest.fixture(scope="module")
def told():
    base = load_base(BaseConfig())
    return base, Told(base)


def drawn(base, adapter, seeds=(5,), **how):
    texts = ["a photo of a woman in red", "a man, outdoors"][: len(seeds)]
    images = sample(base, adapter, batch_of(base, texts), Sampling(**{"steps": 4, **how}), noise_of(base, seeds, PX))
    return np.stack([np.asarray(image, np.int16) for image in images])


@pytest.mark.parametrize(
    ("scheduler", "theirs", "negative"),
    [("euler", EulerDiscreteScheduler, ""), ("euler", EulerDiscreteScheduler, "blurred"), ("ddim", DDIMScheduler, "")],
)
def test_without_adapter_pictures_are_those_of_diffusers(base, scheduler, theirs, negative):
    ours = drawn(base, load_adapter(NoAdapterSettings(), base), (5, 6), scheduler=scheduler, negative=negative)
    text = base.text
    pipeline = StableDiffusionXLPipeline(
        base.vae.model, text.models[0], text.models[1], text.tokenizers[0], text.tokenizers[1], base.unet,
        theirs.from_config(base.schedule.config), add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        ["a photo of a woman in red", "a man, outdoors"], negative_prompt=[negative] * 2, height=PX, width=PX,
        num_inference_steps=4, guidance_scale=5.0, output_type="np",
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
    ).images  # fmt: skip
    difference = np.abs(ours - np.round(images * 255)).max()
    assert difference <= 1, f"{difference} of 255"
    assert ours.std() > 5, "not a plain picture"


def test_a_picture_depends_on_its_own_seed_only(told):
    base, adapter = told
    one, two = drawn(base, adapter, (5,)), drawn(base, adapter, (5, 6))
    assert np.abs(one[0] - two[0]).max() <= 1
    assert np.abs(two[0] - two[1]).max() > 20


def test_identity_enters_from_merge_step(told):
    base, adapter = told
    never, early = drawn(base, adapter, scales={"identity": 0.0}), drawn(base, adapter)
    late, after = drawn(base, adapter, merge_step=2), drawn(base, adapter, merge_step=4)
    assert np.array_equal(after, never), "merge_step = steps: the references never count"
    assert len({image.tobytes() for image in (never, early, late)}) == 3
    adapter.asked.clear()
    drawn(base, adapter, merge_step=2)
    assert adapter.asked == [
        ("a photo of a woman in red", False, False), ("a photo of a woman in red", False, True),
        ("a photo of a woman in red", True, True),
    ]  # fmt: skip


def test_guidance_one_leaves_the_unconditional_out_and_a_negative_prompt_takes_its_place(told):
    base, adapter = told
    adapter.asked.clear()
    drawn(base, adapter, guidance=1)
    assert adapter.asked == [("a photo of a woman in red", False, False)]
    adapter.asked.clear()
    negative, empty = drawn(base, adapter, negative="blurred"), drawn(base, adapter)
    assert adapter.asked[1] == ("blurred", False, True)
    assert not np.array_equal(negative, empty)


def test_scales_are_factors_of_a_named_attention(told):
    base, adapter = told
    assert np.array_equal(drawn(base, adapter, scales={"identity": 1.0}), drawn(base, adapter))
    assert not np.array_equal(drawn(base, adapter, scales={"identity": 0.5}), drawn(base, adapter))
    with pytest.raises(InputError, match=r"^scale: body: this adapter has no such attention \(it has identity\)$"):
        drawn(base, adapter, scales={"body": 1.0})


def test_a_base_in_bfloat16_draws_about_the_same(told):
    base, adapter = told
    before = drawn(base, adapter)
    base.unet.to(torch.bfloat16)
    base.text.to(torch.bfloat16)
    after = drawn(base, adapter)
    base.unet.float()
    base.text.float()
    assert np.abs(before - after).mean() < 8
    assert dataclasses.asdict(Sampling())["guidance"] == 5.0
