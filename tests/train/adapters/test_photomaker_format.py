"""PhotoMaker's files: written and read with the same output, names and sizes as published, every fault a line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from crawl.errors import InputError
from train.adapters.id_encoder import IdEncoder
from train.adapters.photomaker_format import read_photomaker
from train.adapters.settings import LoraSettings, PhotoMakerSettings, SplitPromptSettings
from train.config import TrainRun
from train.export.check import check_exportable
from train.export.files import content
from train.export.write import write
from train.weights import give_adapter

LORA = LoraSettings(rank=2)
V1 = PhotoMakerSettings(lora=LORA, own_clip=True)
V2 = PhotoMakerSettings(lora=LORA, own_clip=True, version="v2")
ABOUT = {"step": 7, "data": "digest", "made_with": {}}


@torch.no_grad()
def stirred(adapter):
    """Other weights than any begin with, the tower's too."""
    generator = torch.Generator().manual_seed(5)
    for parameter in adapter.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return adapter


@pytest.fixture(scope="module")
def released(made, tmp_path_factory):
    """Version → a file as published, of weights that no tiny base begins with; and its adapter and base."""
    folder, found = tmp_path_factory.mktemp("released"), {}
    for version, settings in (("v1", V1), ("v2", V2)):
        base, adapter = made(settings)
        path = folder / f"photomaker-{version}.bin"
        path.write_bytes(content(".bin", stirred(adapter).export("photomaker"), {}))
        found[version] = (str(path), base, adapter)
    return found


@pytest.mark.parametrize("version", ["v1", "v2"])
@torch.no_grad()
def test_a_file_read_back_gives_the_same_conditions_and_lora(version, released, made, photo_batch):
    path, base, adapter = released[version]
    batch = photo_batch(base)
    _, again = made(adapter.settings.model_copy(update={"seed": 9}))
    assert (again.conditions(batch).text - adapter.conditions(batch).text).abs().max() > 1e-2
    again.load_weights(path)
    difference = (again.conditions(batch).text - adapter.conditions(batch).text).abs().max()
    assert difference == 0, f"max |difference| {difference:.2e}"
    lora, other = adapter.lora.state, again.lora.state
    assert all(torch.equal(lora[key], other[key]) for key in lora)


def test_export_loads_the_file_back_and_compares(made, tmp_path):
    _, adapter = made(V1)
    run = TrainRun(output="x", data={"dataset": "x"}, adapter=V1, loop={"steps": 1, "batch_size": 1})
    written = write(run, stirred(adapter), ABOUT, "photomaker", str(tmp_path / "pm.bin"))
    assert written.difference <= 1e-6, f"max |difference| {written.difference:.2e}"
    assert written.weights == sum(value.numel() for value in adapter.export("photomaker").values())


def test_a_tower_shared_with_the_base_is_in_the_file_and_comes_back(made, tmp_path):
    settings = PhotoMakerSettings(lora=LORA)
    _, adapter = made(settings)
    run = TrainRun(output="x", data={"dataset": "x"}, adapter=settings, loop={"steps": 1, "batch_size": 1})
    written = write(run, adapter, ABOUT, "photomaker", str(tmp_path / "pm.safetensors"))
    assert written.difference <= 1e-6, f"max |difference| {written.difference:.2e}"
    id_encoder, _ = read_photomaker(str(tmp_path / "pm.safetensors"))
    assert any(key.startswith("vision_model.encoder.") for key in id_encoder)


def test_the_file_is_a_dictionary_of_exactly_two_in_the_published_order(released):
    path, *_ = released["v1"]
    file = torch.load(path, weights_only=True)
    assert list(file) == ["id_encoder", "lora_weights"]
    assert len(file["lora_weights"]) == 24 * 4 * 2
    assert all(key.startswith("unet.") and ".lora." in key for key in file["lora_weights"])


@torch.no_grad()
def test_diffusers_loads_its_lora_with_the_same_unet(released):
    path, base, _ = released["v1"]
    theirs = type(base.unet).from_config(base.unet.config).eval()
    weights = base.unet.state_dict()
    plain = {key.replace(".base_layer", ""): weights[key] for key in weights if ".lora_" not in key}
    theirs.load_state_dict(plain)
    theirs.load_lora_adapter(torch.load(path, weights_only=True)["lora_weights"], prefix="unet")
    torch.manual_seed(0)
    latents, text, pooled = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 64), torch.randn(2, 32)
    added = {"text_embeds": pooled, "time_ids": torch.zeros(2, 6)}
    ours, other = (
        unet(latents, torch.tensor([5, 500]), encoder_hidden_states=text, added_cond_kwargs=added).sample
        for unet in (base.unet, theirs)
    )
    difference = (ours - other).abs().max()
    assert difference < 1e-6, f"max |difference| {difference:.2e}"


@pytest.mark.parametrize(("version", "millions", "keys"), [("v1", 326.3, 407), ("v2", 543.4, 463)])
def test_names_and_sizes_are_the_published_ones(version, millions, keys):
    settings = PhotoMakerSettings(version=version, own_clip=True)
    with torch.device("meta"):
        clip = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                patch_size=14, projection_dim=768,
            )
        )  # fmt: skip
        encoder = IdEncoder(clip, (768, 1280), settings, face_width=512)
    state = encoder.published()
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(millions, abs=0.05)
    expected = {
        "vision_model.embeddings.class_embedding": [1024],
        "vision_model.embeddings.patch_embedding.weight": [1024, 3, 14, 14],
        "vision_model.embeddings.position_embedding.weight": [257, 1024],
        "vision_model.pre_layrnorm.weight": [1024],
        "vision_model.encoder.layers.23.mlp.fc1.weight": [4096, 1024],
        "vision_model.encoder.layers.0.self_attn.out_proj.bias": [1024],
        "vision_model.post_layernorm.bias": [1024],
        "visual_projection.weight": [768, 1024],
        "visual_projection_2.weight": [1280, 1024],
        "fuse_module.mlp1.layernorm.weight": [4096],
        "fuse_module.mlp1.fc1.weight": [2048, 4096],
        "fuse_module.mlp1.fc2.bias": [2048],
        "fuse_module.mlp2.layernorm.bias": [2048],
        "fuse_module.mlp2.fc1.weight": [2048, 2048],
        "fuse_module.mlp2.fc2.weight": [2048, 2048],
        "fuse_module.layer_norm.weight": [2048],
    }
    perceiver = {
        "token_proj.0.weight": [2048, 512],
        "token_proj.2.weight": [4096, 2048],
        "token_norm.weight": [2048],
        "perceiver_resampler.proj_in.weight": [2048, 1024],
        "perceiver_resampler.proj_out.bias": [2048],
        "perceiver_resampler.norm_out.weight": [2048],
        "perceiver_resampler.layers.3.0.norm1.weight": [2048],
        "perceiver_resampler.layers.3.0.norm2.bias": [2048],
        "perceiver_resampler.layers.0.0.to_q.weight": [2048, 2048],
        "perceiver_resampler.layers.0.0.to_kv.weight": [4096, 2048],
        "perceiver_resampler.layers.0.0.to_out.weight": [2048, 2048],
        "perceiver_resampler.layers.0.1.0.weight": [2048],
        "perceiver_resampler.layers.0.1.1.weight": [8192, 2048],
        "perceiver_resampler.layers.0.1.3.weight": [2048, 8192],
    }
    if version == "v2":
        expected |= {f"qformer_perceiver.{key}": shape for key, shape in perceiver.items()}
    assert {key: list(state[key].shape) for key in expected if key in state} == expected
    parts = {"vision_model", "visual_projection", "visual_projection_2", "fuse_module"}
    assert {key.split(".")[0] for key in state} == parts | ({"qformer_perceiver"} if version == "v2" else set())
    assert len(state) == keys


def test_every_fault_of_a_file_is_a_line_with_its_name_and_key(released, made, tmp_path):
    path, *_ = released["v1"]
    file = torch.load(path, weights_only=True)
    encoder, lora = file["id_encoder"], file["lora_weights"]
    key = "fuse_module.mlp1.fc1.weight"
    fewer = {name: value for name, value in encoder.items() if name != key}
    faulty = {
        "no lora_weights in it": {"id_encoder": encoder},
        "no id_encoder in it": {"lora_weights": lora},
        rf"id_encoder\.{key}: is missing": {"id_encoder": fewer, "lora_weights": lora},
        r"id_encoder\.nose: is unknown here": {"id_encoder": {**encoder, "nose": torch.zeros(1)}, "lora_weights": lora},
        rf"id_encoder\.{key}: shape \[3\], expected \[64, 128\]": {
            "id_encoder": {**encoder, key: torch.zeros(3)},
            "lora_weights": lora,
        },
        "lora.down.weight: shape": {
            "id_encoder": encoder,
            "lora_weights": {k: v[:1] if ".down." in k else v[:, :1] for k, v in lora.items()},
        },
    }
    _, adapter = made(V1)
    for message, weights in faulty.items():
        wrong = tmp_path / "wrong.bin"
        torch.save(weights, wrong)
        with pytest.raises(InputError, match=message) as error:
            adapter.load_weights(str(wrong))
        assert str(error.value).startswith(str(wrong))
        assert "\n" not in str(error.value)
    torn = tmp_path / "torn.bin"
    torn.write_bytes(Path(path).read_bytes()[:5000])
    with pytest.raises(InputError, match=r"torn\.bin: not a weights file"):
        adapter.load_weights(str(torn))


def test_another_version_or_another_tower_is_refused(released, made):
    with pytest.raises(InputError, match=r"weights of PhotoMaker v2, but adapter\.version is v1"):
        made(V1)[1].load_weights(released["v2"][0])
    with pytest.raises(InputError, match=r"vision_model\..*another tower than base\.clip: set adapter\.own_clip"):
        made(PhotoMakerSettings(lora=LORA))[1].load_weights(released["v1"][0])


def test_what_older_writers_leave_in_files_is_read(released, made, tmp_path):
    """Positions that transformers once saved; half precision; LoRA keys of diffusers' processors; safetensors."""
    path, _, adapter = released["v1"]
    encoder, lora = read_photomaker(path)
    encoder["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    old = {key.replace(".to_", ".processor.to_").replace(".lora.", "_lora.").replace("to_out.0", "to_out"): value
           for key, value in lora.items()}  # fmt: skip
    flat = {f"id_encoder.{k}": v for k, v in encoder.items()} | {f"lora_weights.{k}": v for k, v in old.items()}
    file = tmp_path / "old.safetensors"
    save_file({key: value.half() if value.is_floating_point() else value for key, value in flat.items()}, file)
    _, again = made(V1)
    again.load_weights(str(file))
    state, other = adapter.export("photomaker"), again.export("photomaker")
    assert state.keys() == other.keys()
    difference = max(float((state[key] - other[key]).abs().max()) for key in state)
    assert difference < 2e-3, f"max |difference| {difference:.2e}"
    assert {value.dtype for value in other.values()} == {torch.float32}


@torch.no_grad()
def test_the_thesis_other_ways_begin_from_a_released_file(released, made):
    path, *_ = released["v1"]
    id_encoder, lora = read_photomaker(path)
    _, attention = made(PhotoMakerSettings(lora=None, own_clip=True, identity_path="attention"))
    attention.load_weights(path)
    assert torch.equal(attention.id_encoder.visual_projection_2.weight, id_encoder["visual_projection_2.weight"])
    assert not hasattr(attention.id_encoder, "fuse_module")
    _, both = made(PhotoMakerSettings(lora=None, own_clip=True, identity_path="both"))
    both.load_weights(path)
    assert torch.equal(both.id_encoder.visual_projection_3.weight, id_encoder["visual_projection_2.weight"])
    base, copied = made(PhotoMakerSettings(lora=LORA, own_clip=True, identity_path="attention", copy_lora=True))
    copied.load_weights(path)
    name = base.cross_layers()[5].removesuffix(".processor")
    kv = copied.adapters["identity"]["5"]
    assert torch.equal(kv.to_k.up.weight, lora[f"unet.{name}.to_k.lora.up.weight"])
    assert torch.equal(kv.to_v.down.weight, lora[f"unet.{name}.to_v.lora.down.weight"])
    _, split = made(SplitPromptSettings(lora=LORA, own_clip=True))
    split.load_weights(path)
    state = split.lora.state
    assert all(torch.equal(state[key.removeprefix("unet.")], value) for key, value in lora.items())


def test_formats_are_known_from_the_settings():
    exportable = {
        "photomaker": (V1, V2, PhotoMakerSettings(train_clip=True)),
        "native": (
            PhotoMakerSettings(lora=None),
            PhotoMakerSettings(lora=None, identity_path="attention"),
            SplitPromptSettings(),
        ),
    }
    for wanted, settings in exportable.items():
        for one in settings:
            run = TrainRun(output="x", data={"dataset": "x"}, adapter=one, loop={"steps": 1, "batch_size": 1})
            check_exportable(run, "native")
            if wanted == "photomaker":
                check_exportable(run, "photomaker")
                continue
            with pytest.raises(InputError, match="export: photomaker: adapter"):
                check_exportable(run, "photomaker")


def test_a_base_that_the_file_cannot_serve_is_refused():
    rest = {"output": "x", "data": {"dataset": "x"}, "loop": {"steps": 1, "batch_size": 1}, "export": "photomaker"}
    sdxl, sd15 = ({"family": family, "weights": "somewhere"} for family in ("sdxl", "sd15"))
    for base, settings, message in (
        (sd15, V1, "base.family: sd15: PhotoMaker's file is for two text encoders"),
        ({**sdxl, "face": "open"}, V2, "base.face: open: PhotoMaker v2 embeds faces by insightface"),
    ):
        with pytest.raises(InputError, match=f"export: photomaker: {message}"):
            check_exportable(TrainRun(base=base, adapter=settings, **rest))
    check_exportable(TrainRun(base={**sdxl, "face": "insightface"}, adapter=V2, **rest))
    check_exportable(TrainRun(base=sdxl, adapter=V1, **rest))


def weights_of(adapter):
    """As a checkpoint holds them."""
    return {f"adapter.{key}": value.clone() for key, value in adapter.state_dict().items()}


@torch.no_grad()
def test_a_run_goes_on_from_one_without_lora_and_from_one_with_a_smaller_rank(made):
    _, small = made(PhotoMakerSettings(lora=LoraSettings(rank=1)))
    stirred(small)
    _, none = made(PhotoMakerSettings(lora=None))
    _, large = made(PhotoMakerSettings(lora=LoraSettings(rank=16), seed=3))
    begun = large.lora.state
    give_adapter(large, weights_of(small), "init_from: A.1.3", partly=True)
    before, after = small.lora.state, large.lora.state
    for key in before:
        if key.endswith(".down.weight"):
            up = key.replace(".down.", ".up.")
            difference = (before[up] @ before[key] - after[up] @ after[key]).abs().max()
            assert difference < 1e-6, f"{key}: max |difference| of the update {difference:.2e}"
            assert torch.equal(after[key][1:], begun[key][1:])
    give_adapter(large, weights_of(none), "init_from: A.1.2", partly=True)
    assert all(torch.equal(value, after[key]) for key, value in large.lora.state.items())
    assert torch.equal(large.id_encoder.visual_projection_2.weight, none.id_encoder.visual_projection_2.weight)
    with pytest.raises(InputError, match=r"init_from: A\.1\.5: lora\..*: shape \[16, "):
        give_adapter(small, weights_of(large), "init_from: A.1.5", partly=True)
