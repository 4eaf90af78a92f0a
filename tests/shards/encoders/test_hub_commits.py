"""A hub's name always means the same weights: known names have a commit, a run file may name another."""

import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTokenizer, CLIPVisionModelWithProjection

from crawl.errors import InputError
from shards.encoders.config import COMMITS, BaseConfig
from shards.encoders.load import load_clip, load_vae, part
from shards.encoders.pictures import ClipVision, Vae
from shards.features.digest import encoder_name

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
VAE = "madebyollin/sdxl-vae-fp16-fix"
CLIP = "openai/clip-vit-large-patch14"


@pytest.fixture
def asked(monkeypatch):
    """(class, name, revision) of whatever is asked for; nothing is found."""
    found = []

    def hear(kind):
        def ask(name, subfolder=None, revision=None, **_):
            found.append((kind.__name__, name, revision))
            raise OSError("no network")

        monkeypatch.setattr(kind, "from_pretrained", ask)

    for kind in (UNet2DConditionModel, CLIPTokenizer, AutoencoderKL, CLIPVisionModelWithProjection):
        hear(kind)
    return found


def load_everything(base):
    loaders = (lambda: part(base, UNet2DConditionModel, "unet"), lambda: part(base, CLIPTokenizer, "tokenizer"))
    for load in (*loaders, lambda: load_vae(base), lambda: load_clip(base)):
        with pytest.raises(InputError, match="cannot be loaded: no network"):
            load()


def test_known_names_are_asked_for_at_their_commit(asked):
    load_everything(BaseConfig(family="sdxl", weights=SDXL, vae=VAE, clip=CLIP))
    assert {(name, revision) for _, name, revision in asked} == {(name, COMMITS[name]) for name in (SDXL, VAE, CLIP)}
    assert len(asked) == 4
    assert all(len(commit) == 40 for commit in COMMITS.values())


def test_a_run_file_may_name_others_and_other_names_have_none(asked):
    load_everything(
        BaseConfig(family="sdxl", weights=SDXL, revision="a", vae=VAE, vae_revision="b", clip=CLIP, clip_revision="c")
    )
    assert {(name, revision) for _, name, revision in asked} == {(SDXL, "a"), (VAE, "b"), (CLIP, "c")}
    unknown = BaseConfig(family="sdxl", weights="somebody/model", vae="./vae", clip="./clip")
    assert (unknown.revision, unknown.vae_revision, unknown.clip_revision) == (None, None, None)


def test_the_commit_is_in_the_resolved_configuration():
    base = BaseConfig(family="sdxl", weights=SDXL)
    assert base.model_dump()["revision"] == COMMITS[SDXL]
    assert BaseConfig(**base.model_dump()) == base


def test_a_feature_says_which_commit_it_was_made_from():
    base = BaseConfig(family="sdxl", weights=SDXL, vae="./vae", clip=CLIP)
    vae, clip = Vae.__new__(Vae), ClipVision.__new__(ClipVision)
    assert encoder_name(base, clip) == f"{CLIP}@{COMMITS[CLIP]}"
    assert encoder_name(base, vae) == "./vae"
    assert (
        encoder_name(base.model_copy(update={"vae": None, "vae_revision": None}), vae) == f"{SDXL}@{COMMITS[SDXL]} vae"
    )
