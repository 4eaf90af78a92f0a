"""From a run file to its base: as it was before the first step, whatever a run has trained since."""

import pytest
import torch

from train.checkpoint import load_run
from train.class_pictures import class_latents
from train.run import train

DREAMBOOTH = {"kind": "dreambooth", "lora": None, "prior_images": 3, "prior_steps": 2, "prior_guidance": 1}
ZERO_SNR = {"zero_terminal_snr": True}


@pytest.fixture
def scratch(tmp_path, run_in, synthetic):
    """A base that was trained from scratch, to predict v."""
    run = run_in(tmp_path / "scratch", loss=ZERO_SNR, loop={"steps": 2}, optim={"lr": 1e-2})
    train(run, synthetic())
    return run.output


@pytest.fixture
def one_person(tmp_path, run_in, scratch):
    def make(name, adapter, **loop):
        data = {"identities": ["p0"], "drop": {"text": 0, "identity": 0, "both": 0}}
        return run_in(
            tmp_path / name, data=data, adapter=adapter, loss=ZERO_SNR, loop={"steps": 1} | loop, init_from=scratch
        )

    return make


def test_class_pictures_are_by_the_base_that_the_run_began_with(one_person, scratch, synthetic):
    run = one_person("full", DREAMBOOTH)
    train(run, synthetic())
    _, began, _, _ = load_run(scratch)
    _, now, adapter, _ = load_run(run.output)
    assert not torch.equal(now.unet.conv_in.weight, began.unet.conv_in.weight)
    expected = class_latents(began, "a photo of a woman", 3, 2, 1, 32, 0)
    with adapter._untrained() as base:
        assert torch.equal(class_latents(base, "a photo of a woman", 3, 2, 1, 32, 0), expected)


@pytest.mark.parametrize("adapter", [{**DREAMBOOTH, "lora": {"rank": 2}}, {"kind": "textual_inversion"}])
def test_what_leaves_the_unet_alone_begins_with_one_that_predicts_v(one_person, scratch, synthetic, adapter):
    run = one_person("small", adapter, train_unet=False)
    train(run, synthetic())
    _, began, _, _ = load_run(scratch)
    _, now, _, _ = load_run(run.output)
    assert now.schedule.config.prediction_type == "v_prediction"
    unet = {key.replace(".base_layer.", "."): value for key, value in now.unet.state_dict().items()}
    assert all(torch.equal(unet[key], value) for key, value in began.unet.state_dict().items())
