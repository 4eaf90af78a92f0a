"""Networks that adapters and evaluation name on the hub are asked for at a commit: a known one, or the run file's."""

import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPTokenizer, VitPoseForPoseEstimation

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.bolid_losses import ClipScore, PoseNetwork
from train.adapters.settings import BolidSettings, LightningSettings, NoAdapterSettings
from train.base_models import load_base
from train.commits import COMMITS
from train.distilled import distilled
from train.evaluate.clip import load_clip_scores
from train.evaluate.settings import EvaluateSettings
from train.registry import experiments

POSE, CLIP = "usyd-community/vitpose-base-simple", "openai/clip-vit-large-patch14"
LIGHTNING = "ByteDance/SDXL-Lightning"
FILE = f"{LIGHTNING}/sdxl_lightning_4step_unet.safetensors"


@pytest.fixture
def asked(monkeypatch):
    """(name, revision) of whatever is asked for; nothing is found."""
    found = []

    def ask(name, *_, revision=None, **__):
        found.append((name, revision))
        raise OSError("no network")

    for kind in (AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPTokenizer, VitPoseForPoseEstimation):
        monkeypatch.setattr(kind, "from_pretrained", ask)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", ask)
    return found


def load_everything(bolid, lightning, evaluate):
    cpu, base = torch.device("cpu"), load_base(BaseConfig())
    adapter = load_adapter(NoAdapterSettings(), base)
    for load in (
        lambda: PoseNetwork(bolid.pose_network, cpu, bolid.pose_network_revision),
        lambda: ClipScore(bolid.clip_model, cpu, bolid.clip_model_revision),
        lambda: distilled(lightning.weights, base, adapter, lightning.revision),
        lambda: load_clip_scores(evaluate.clip, evaluate.clip_revision),
    ):
        with pytest.raises(InputError, match="no network"):
            load()


def test_known_names_are_asked_for_at_their_commit(asked):
    bolid = BolidSettings(pose_network=POSE, clip_model=CLIP)
    load_everything(bolid, LightningSettings(weights=FILE), EvaluateSettings(clip=CLIP))
    assert asked == [(name, COMMITS[name]) for name in (POSE, CLIP, LIGHTNING, CLIP)]
    assert BolidSettings(**bolid.model_dump()) == bolid, "a resolved run file says the same"


def test_a_run_file_may_name_others_and_other_names_have_none(asked):
    bolid = BolidSettings(pose_network=POSE, pose_network_revision="a", clip_model="some/clip", clip_model_revision="b")
    load_everything(
        bolid, LightningSettings(weights=FILE, revision="c"), EvaluateSettings(clip=CLIP, clip_revision="d")
    )
    assert asked == [(POSE, "a"), ("some/clip", "b"), (LIGHTNING, "c"), (CLIP, "d")]
    unknown = BolidSettings(pose_network="./pose", clip_model="tiny")
    assert (unknown.pose_network_revision, unknown.clip_model_revision) == (None, None)
    assert LightningSettings(weights=f"./{FILE}").revision is None
    assert LightningSettings().revision is None


def test_an_evaluations_pose_model_has_a_commit_too():
    assert EvaluateSettings(pose="vitpose").detecting().vitpose_revision == COMMITS[POSE]


def test_every_network_that_a_run_file_names_is_pinned():
    for experiment in experiments():
        adapter = experiment.run.adapter
        for name in ("pose_network", "clip_model"):
            assert getattr(adapter, name, None) is None or getattr(adapter, f"{name}_revision"), experiment.path
        lightning = getattr(adapter, "lightning", None)
        assert lightning is None or lightning.weights is None or lightning.revision, experiment.path
