"""The baselines that know a person by a word: DreamBooth and Textual Inversion."""

import dataclasses

import pytest
import torch

from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.settings import DreamBoothSettings, LoraSettings, TextualInversionSettings
from train.adapters.words import class_word, trained_with, with_identifier
from train.base_models import load_base
from train.class_pictures import class_latents
from train.config import TrainRun
from train.data.draws import Draws
from train.data.synthetic import Synthetic
from train.export.write import write
from train.preflight import check
from train.step import step_at

PRIOR = {"prior_images": 3, "prior_steps": 2, "prior_guidance": 1}


def batch_for(base, adapter, count=2):
    return Synthetic(base, type(adapter).needs(adapter.settings), Draws(0), 32).held_out(count)


def dreambooth(**settings):
    base = load_base(BaseConfig())
    adapter = load_adapter(DreamBoothSettings(**PRIOR, **({"lora": LoraSettings(rank=2)} | settings)), base)
    return base, adapter, batch_for(base, adapter)


def step_of(base, batch, timesteps=(10, 500)):
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(3))
    return step_at(base, batch, Draws(0), noise, torch.tensor(timesteps))


def dropped(batch, name):
    yes = torch.ones(len(batch), dtype=torch.bool)
    return batch.replace(drop=dataclasses.replace(batch.drop, **{name: yes}))


def test_the_identifier_stands_before_the_class_word():
    text = "a photo of a tall woman in red"
    at = text.index("woman") + len("woman")
    assert class_word(text, at) == "woman"
    assert with_identifier(text, at, "sks") == "a photo of a tall sks woman in red"
    assert with_identifier("a photo of a sks woman", 20, "sks") == "a photo of a sks woman", "it is there already"
    assert with_identifier("trees", -1, "sks") == "trees"
    assert class_word("trees", -1) == "person"


def test_training_prompts_have_each_samples_class_word():
    _, _, batch = dreambooth()
    prompts, positions = trained_with(batch, "a photo of a {person}, outdoors")
    assert prompts == ["a photo of a woman, outdoors"] * 2
    assert [prompts[0][:at] for at in positions] == ["a photo of a woman"] * 2
    assert trained_with(batch, None) == (list(batch.prompts.general), list(batch.prompts.trigger_position))


@torch.no_grad()
def test_dreambooth_reads_the_prompt_with_its_word_and_without_identity_the_plain_one():
    base, adapter, batch = dreambooth()
    word, plain = adapter.conditions(batch), adapter.conditions(dropped(batch, "identity"))
    both = zip(batch.prompts.general, batch.prompts.trigger_position, strict=True)
    named = [with_identifier(text, at, "sks") for text, at in both]
    assert torch.allclose(word.text, base.text.encode(named).hidden, atol=1e-6)
    assert torch.allclose(plain.text, base.text.encode(list(batch.prompts.general)).hidden, atol=1e-6)
    nothing = adapter.conditions(dropped(batch, "text"))
    assert torch.allclose(nothing.text, base.text.encode(["", ""]).hidden, atol=1e-6)


def test_prior_preservation_equals_a_written_out_one():
    base, adapter, batch = dreambooth(prior_weight=0.7)
    step = step_of(base, batch)
    term = adapter.losses(step)["prior"]
    assert term.weight == 0.7
    bare = load_base(BaseConfig())
    prior = class_latents(bare, "a photo of a woman", 3, 2, 1, 32, 0)
    draws, at = Draws(0), (batch.step, batch.indices)
    states = bare.text.encode(["a photo of a woman"])
    for i in range(2):
        row = int(draws.integers("prior picture", *at, 3)[i])
        noise = draws.normal("prior noise", *at, prior.shape[1:])[i]
        t = int(draws.integers("prior timestep", *at, 1000)[i])
        alpha = float(bare.schedule.alphas_cumprod[t])
        noisy = alpha**0.5 * prior[row] + (1 - alpha) ** 0.5 * noise
        added = {"text_embeds": states.pooled, "time_ids": batch.time_ids[i : i + 1]}
        with torch.no_grad():
            predicted = bare.unet(noisy[None], t, states.hidden, added_cond_kwargs=added).sample[0]
        total = sum((float(a) - float(b)) ** 2 for a, b in zip(predicted.flatten(), noise.flatten(), strict=True))
        assert float(term.per_sample[i].detach()) == pytest.approx(total / predicted.numel(), rel=1e-5)


def test_the_class_pictures_are_the_untrained_bases_whatever_was_learned():
    base, adapter, batch = dreambooth()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1)
    adapter.losses(step_of(base, batch))
    expected = class_latents(load_base(BaseConfig()), "a photo of a woman", 3, 2, 1, 32, 0)
    assert torch.equal(adapter._prior, expected)


def test_dreambooth_overfits_its_word_and_not_the_class():
    """A few steps lower the loss of the identifier's prompt more than that of the plain one."""
    torch.manual_seed(0)
    base, adapter, batch = dreambooth(lora=LoraSettings(rank=8), prior_weight=0.0)
    optimiser = torch.optim.Adam(adapter.parameters(), lr=5e-3)
    step = step_of(base, batch)
    before = float(adapter.losses(step)["diffusion"].per_sample.detach().mean())
    for _ in range(15):
        optimiser.zero_grad()
        adapter.losses(step)["diffusion"].per_sample.mean().backward()
        optimiser.step()
    assert float(adapter.losses(step)["diffusion"].per_sample.detach().mean()) < 0.9 * before
    assert all(p.grad is None for p in [*base.text.parameters(), *base.vae.parameters()])


def test_a_lora_file_loads_in_diffusers(tmp_path):
    _, adapter, _ = dreambooth()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    run = run_file(tmp_path, {"kind": "dreambooth", "lora": {"rank": 2}})
    exported = write(
        run, adapter.eval(), {"step": 1, "data": "d", "made_with": {}}, "diffusers", f"{tmp_path}/lora.safetensors"
    )
    assert exported.difference <= 2e-6


def run_file(tmp_path, adapter, identities=("k",), **loop):
    return TrainRun.model_validate(
        {
            "output": str(tmp_path / "run"),
            "data": {"dataset": "out/demo", "identities": list(identities)},
            "adapter": adapter,
            "loop": {"steps": 1, "batch_size": 2} | loop,
        }
    )


@pytest.mark.parametrize(
    ("adapter", "identities", "loop", "line"),
    [
        ({"kind": "dreambooth"}, (), {}, "data.identities: dreambooth is trained for one person"),
        ({"kind": "textual_inversion"}, ("a", "b"), {}, "data.identities: .* name one key, not 2"),
        ({"kind": "dreambooth", "lora": None}, ("a",), {}, "loop.train_unet: dreambooth"),
        ({"kind": "dreambooth"}, ("a",), {"train_unet": True}, "loop.train_unet: dreambooth"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(tmp_path, adapter, identities, loop, line):
    with pytest.raises(Exception, match=line):
        check(run_file(tmp_path, adapter, identities, **loop))


def inversion(**settings):
    base = load_base(BaseConfig())
    adapter = load_adapter(TextualInversionSettings(**settings), base)
    return base, adapter, batch_for(base, adapter)


@torch.no_grad()
def test_the_word_begins_as_the_initial_word():
    """In place of `woman`, a vector that is `man`'s reads as `man`."""
    base, adapter, batch = inversion(initial_word="man")
    read = adapter.conditions(batch)
    expected = base.text.encode([text.replace("woman", "man") for text in batch.prompts.general])
    assert torch.allclose(read.text, expected.hidden, atol=1e-5)
    assert torch.allclose(read.pooled, expected.pooled, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("vectors", [1, 3])
def test_the_word_is_read_where_the_class_word_stood_and_nowhere_else(vectors):
    base, adapter, batch = inversion(vectors=vectors)
    before = adapter.conditions(batch).text
    for parameter in adapter.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    after = adapter.conditions(batch).text
    changed = (after - before).abs().amax(-1) > 1e-6
    first = int(changed[0].int().argmax())
    tokens = base.text.ids(["a photo of a woman"])[0][0]
    assert first == int((tokens == tokens.max()).int().argmax()) - 1, "CLIP looks back only: before it nothing changes"
    for name in ("text", "identity"):
        gone = dropped(batch, name)
        prompts = ["", ""] if name == "text" else list(batch.prompts.general)
        assert torch.allclose(adapter.conditions(gone).text, base.text.encode(prompts).hidden, atol=1e-6)
    plain = base.text.encode(list(batch.prompts.general)).hidden
    assert torch.equal(base.text.encode(list(batch.prompts.general)).hidden, plain), "no hook is left behind"


def test_only_the_word_learns():
    base, adapter, batch = inversion()
    adapter.losses(step_of(base, batch))["diffusion"].per_sample.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in adapter.parameters())
    assert all(p.grad is None for module in (base.text, base.unet, base.vae) for p in module.parameters())
    assert sum(p.numel() for p in adapter.parameters()) == sum(base.text.widths)


def test_prompts_name_the_person_once():
    for prompt in ("a photo", "{person} and {person}"):
        with pytest.raises(ValueError, match="once"):
            DreamBoothSettings(prompt=prompt)
