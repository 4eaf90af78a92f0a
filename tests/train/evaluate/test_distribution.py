"""FID, KID and IS are the reference library's on the same pictures; what is too few is said to be."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from train.evaluate.distribution import numbers, told
from train.evaluate.weights import Inception, load_features

COUNT = 6
LAYER = "64"
"""Of Inception: FID's matrix root over the published 2048 features takes half a minute."""


@pytest.fixture(scope="module")
def pictures():
    """Two sets of six: noise, and smooth noise."""
    random = np.random.RandomState(0)
    noise = [Image.fromarray(random.randint(0, 255, (40, 40, 3), np.uint8)) for _ in range(2 * COUNT)]
    return noise[:COUNT], [one.resize((8, 8)).resize((40, 40)) for one in noise[COUNT:]]


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Random, in the file's form."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(FeatureExtractorInceptionV3("inception", ["2048"]).state_dict(), path)
    return str(path)


@pytest.mark.slow
def test_they_equal_torch_fidelity_on_the_same_files(pictures, inception_weights, tmp_path):
    for name, own in zip(("one", "other"), pictures, strict=True):
        (tmp_path / name).mkdir()
        for i, picture in enumerate(own):
            picture.save(tmp_path / name / f"{i}.png")
    theirs = calculate_metrics(
        input1=str(tmp_path / "one"), input2=str(tmp_path / "other"), fid=True, kid=True, isc=True, cuda=False,
        kid_subset_size=COUNT // 2, isc_splits=COUNT, feature_extractor_weights_path=inception_weights, verbose=False,
        cache=False, save_cpu_ram=True, feature_layer_fid=LAYER, feature_layer_kid=LAYER,
    )  # fmt: skip
    network = Inception(inception_weights, LAYER)
    ours = numbers(*(told(network, own) for own in pictures))
    assert ours["fid"].value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    assert ours["kid"].value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert ours["kid"].spread == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-5)
    assert ours["is"].value == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert not ours["fid"].headline, "six pictures for 64 features"
    assert "6 generated, 6 real" in ours["fid"].note


def test_kid_of_one_subset_is_the_written_out_estimate(pictures):
    network = load_features("tiny")
    one, other = (told(network, own) for own in pictures)
    wanted = [[mmd2(one.features[a], other.features[b]) for a in halves()] for b in halves()]
    found = numbers(one, other)["kid"]
    assert np.min(wanted) - 1e-6 <= found.value <= np.max(wanted) + 1e-6, "a mean over subsets of three"
    assert found.note == "6 generated, 6 real; 100 subsets of 3"


def halves():
    import itertools

    return [list(half) for half in itertools.combinations(range(COUNT), COUNT // 2)]


def mmd2(x, y):
    """Unbiased MMD² with the cubic kernel (x·y/d + 1)³, arXiv 1801.01401."""
    kernel = lambda a, b: float((a @ b) / len(a) + 1) ** 3  # noqa: E731
    m = len(x)
    same = sum(kernel(v[i], v[j]) for v in (x, y) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return same - 2 * sum(kernel(a, b) for a in x for b in y) / m**2


def test_the_same_pictures_have_no_distance_and_others_have_some(pictures):
    network = load_features("tiny")
    one, other = (told(network, own) for own in pictures)
    assert numbers(one, one)["fid"].value == pytest.approx(0, abs=1e-4)
    assert numbers(one, other)["fid"].value > 1e-3


def test_a_random_network_is_the_same_every_time_and_too_few_pictures_have_no_numbers(pictures):
    first, second = (told(load_features("tiny"), pictures[0]) for _ in range(2))
    assert torch.equal(first.features, second.features)
    assert numbers(told(load_features("tiny"), pictures[0][:3]), first) == {}
