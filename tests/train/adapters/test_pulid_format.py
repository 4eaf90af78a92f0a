"""PuLID's file: the published keys and sizes, out and in again, in either spelling; refused where it cannot be."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from crawl.errors import InputError
from shards.encoders.config import BaseConfig
from train.adapters import load_adapter
from train.adapters.attention import install_streams
from train.adapters.pulid_attention import IdentityKv
from train.adapters.settings import PulidSettings
from train.base_models import load_base
from train.config import TrainRun
from train.export.check import check_exportable
from train.export.write import write
from train.preflight import check
from train.restore import restore

ABOUT = {"step": 7, "data": "d1g357", "made_with": {}}


def run_file(base=None, export="native", **adapter):
    return TrainRun.model_validate(
        {
            "output": "out/none", "data": {"dataset": "none", "size_px": 32, "references": [1, 1]}, "export": export,
            "base": base or {}, "adapter": {"kind": "pulid", **adapter}, "loop": {"steps": 1, "batch_size": 1},
        }
    )  # fmt: skip


def trained(run, seed=1):
    """An adapter on the tiny base, as if trained."""
    adapter = load_adapter(run.adapter, load_base(BaseConfig(), clip=True, face=True))
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return adapter


def test_layers_are_the_70_of_sdxl_under_odd_numbers(sdxl_base):
    layers = install_streams(sdxl_base, ["identity"], IdentityKv)
    keys = {f"{i}.{key}": p for i, layer in layers.items() for key, p in layer.streams["identity"].named_parameters()}
    assert keys.keys() == {f"{i}.id_to_{side}.weight" for i in range(1, 140, 2) for side in "kv"}
    assert keys["1.id_to_k.weight"].shape == (640, 2048)
    assert keys["139.id_to_v.weight"].shape == (1280, 2048)
    assert sum(p.numel() for p in keys.values()) == pytest.approx(340.79e6, rel=1e-4)


@pytest.mark.parametrize(("version", "scale", "limit"), [("v1", 1.0, 0), ("v1.1", 0.7, 2e-6)])
def test_what_is_written_comes_back_the_same(tmp_path, version, scale, limit):
    run = run_file(version=version, scale=scale)
    adapter, out = trained(run), str(tmp_path / "pulid.safetensors")
    written = write(run, adapter, ABOUT, "pulid", out)
    assert written.difference <= limit
    state = load_file(out)
    assert {key.split(".")[0] for key in state} == {"id_adapter", "id_adapter_attn_layers"}
    odd = {str(i) for i in adapter.base.cross_layers()}
    assert {key.split(".")[1] for key in state if key.startswith("id_adapter_attn_layers")} == odd
    assert all(int(i) % 2 for i in odd)
    _, _, again = restore(out)
    for (name, mine), (_, its) in zip(adapter.named_parameters(), again.named_parameters(), strict=True):
        assert torch.allclose(mine, its, atol=1e-6), name


def test_both_spellings_load_and_what_does_not_fit_is_named(tmp_path):
    run = run_file(version="v1")
    adapter, out = trained(run), str(tmp_path / "pulid.safetensors")
    state = adapter.export("pulid")
    other = {
        key.replace("id_adapter_attn_layers", "ip_adapter").replace("id_adapter.", "image_proj.")
        .replace("id_to_k", "to_k_ip").replace("id_to_v", "to_v_ip"): value
        for key, value in state.items()
    }  # fmt: skip
    assert "ip_adapter.1.to_k_ip.weight" in other or any(".to_k_ip.weight" in key for key in other)
    save_file(other, out)
    again = trained(run, seed=2)
    again.load_weights(out)
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), again.parameters(), strict=True))
    torch.save(state, tmp_path / "flat.bin")
    again = trained(run, seed=3)
    again.load_weights(str(tmp_path / "flat.bin"))
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), again.parameters(), strict=True))
    layer = next(key for key in state if key.endswith("id_to_k.weight"))
    for change, message in (
        ({"unet.conv_in": torch.zeros(1)}, "unet.conv_in: is unknown here; PuLID's files hold id_adapter"),
        ({layer: torch.zeros(2, 2)}, rf"{layer}: shape \[2, 2\], expected"),
        ({layer: None}, f"{layer}: is missing"),
        ({"id_adapter.latents": torch.zeros(1)}, "id_adapter.latents: is unknown here"),
    ):
        save_file({k: v for k, v in {**state, **change}.items() if v is not None}, out)
        with pytest.raises(InputError, match=f"pulid.safetensors: {message}"):
            again.load_weights(out)


@pytest.mark.parametrize(
    ("base", "adapter", "format", "message"),
    [
        (
            {"family": "sdxl", "weights": "x/y", "clip": "c/d", "face": "open"},
            {},
            "pulid",
            "base.face: open: PuLID embeds faces by",
        ),
        ({"family": "sd15", "weights": "x/y", "clip": "c/d"}, {}, "pulid", "base.family: sd15: PuLID's file is for"),
        ({}, {"scale": 0}, "pulid", "adapter.scale: 0: λ is multiplied"),
        ({}, {}, "diffusers", "adapter.kind: pulid has no form for diffusers"),
        ({}, {}, "comfyui", "adapter.kind: pulid has no form for comfyui"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_training(base, adapter, format, message):
    with pytest.raises(InputError, match=f"^export: {format}: {message}"):
        check(run_file(base, format, **adapter))
    if format == "pulid" and base.get("family") == "sdxl":
        check_exportable(
            run_file({**base, "face": "insightface", "accept_licence": "insightface-non-commercial"}, format)
        )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"adapter": {"lightning": {"id_weight": 1}}}, "base.face: embedded: the ID loss needs a network"),
        (
            {"adapter": {"lightning": {"layout_weight": 1, "weights": "./none"}}},
            "adapter.lightning.weights: ./none: no such",
        ),
        ({"adapter": {"max_references": 2}, "data": {"references": [1, 3]}}, "data.references: up to 3, but"),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_training(sections, message):
    run = json.loads(run_file().model_dump_json())
    for name, section in sections.items():
        run[name] |= section
    run["loop"]["train_unet"] = True
    with pytest.raises(InputError, match=f"^{message}"):
        check(TrainRun.model_validate(run))


def test_more_steps_with_gradients_than_steps_are_an_error():
    with pytest.raises(ValueError, match="backprop_steps: 5 is more than steps"):
        PulidSettings(lightning={"backprop_steps": 5})
