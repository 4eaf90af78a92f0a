"""LPIPS is torchmetrics' own, its backbone from our cache; a tiny one is the same every time."""

import pytest
import torch
import torchvision
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from crawl.errors import InputError
from train.evaluate.weights import load_lpips, needed


@pytest.fixture
def two():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 3, 64, 64, generator=generator) * 2 - 1


@pytest.mark.filterwarnings("ignore:Importing `spectral_angle_mapper`")
def test_it_equals_torchmetrics_with_the_same_backbone(two, tmp_path, monkeypatch):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = torchvision.models.alexnet(weights=None).state_dict()
    torch.save(state, tmp_path / "alexnet.pth")
    monkeypatch.setattr("train.evaluate.weights.weights_path", lambda spec: tmp_path / "alexnet.pth")
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: state)
    theirs = LearnedPerceptualImagePatchSimilarity(net_type="alex")
    wanted = float(theirs(*two))
    assert float(load_lpips("alex")(*two)) == pytest.approx(wanted, rel=1e-6)
    assert wanted > 0


def test_a_tiny_one_is_the_same_every_time_and_zero_between_equals(two):
    first, second = (float(load_lpips("tiny")(*two)) for _ in range(2))
    assert first == second > 0
    assert float(load_lpips("tiny")(two[0], two[0])) == 0


def test_a_missing_library_is_one_line():
    with pytest.raises(InputError, match=r"^inception: no-such-thing is not installed: pip install"):
        needed("no_such_thing.at_all", "inception")
