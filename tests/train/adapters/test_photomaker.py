"""PhotoMaker: fusing equals written-out arithmetic for any batch; drops are the base exactly; what should learn can."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from train.adapters.adapter import Stream
from train.adapters.fuse import FuseModule
from train.adapters.low_rank_kv import LowRankKv
from train.adapters.perceiver import QFormerPerceiver
from train.adapters.settings import LoraSettings, PhotoMakerSettings
from train.data.batch import Drop
from train.step import denoise

LORA = LoraSettings(rank=2)
WAYS = {
    "v1": PhotoMakerSettings(lora=LORA),
    "v2": PhotoMakerSettings(lora=LORA, version="v2", face_norm=3.0),
    "whole tower": PhotoMakerSettings(lora=LORA, train_clip=True),
    "own tower": PhotoMakerSettings(lora=LORA, own_clip=True),
    "v2, whole tower": PhotoMakerSettings(lora=LORA, version="v2", train_clip=True),
    "without LoRA": PhotoMakerSettings(lora=None),
    "fuse frozen": PhotoMakerSettings(lora=LORA, train_fuse=False),
    "attention": PhotoMakerSettings(lora=None, identity_path="attention"),
    "v2, attention": PhotoMakerSettings(lora=None, identity_path="attention", version="v2"),
    "both": PhotoMakerSettings(lora=None, identity_path="both"),
    "copied LoRA": PhotoMakerSettings(lora=LORA, identity_path="attention", copy_lora=True),
}
LIKE_OTHERS = ("without LoRA", "fuse frozen", "v2, attention", "own tower")
"""Told apart by what they train alone."""
GROUPS = {
    "v1": {"projections", "fuse", "lora"},
    "v2": {"projections", "fuse", "lora"},
    "whole tower": {"clip", "projections", "fuse", "lora"},
    "own tower": {"projections", "fuse", "lora"},
    "v2, whole tower": {"clip", "projections", "fuse", "lora"},
    "without LoRA": {"projections", "fuse"},
    "fuse frozen": {"projections", "lora"},
    "attention": {"projections", "kv", "norm"},
    "v2, attention": {"projections", "kv", "norm"},
    "both": {"projections", "fuse", "kv", "norm"},
    "copied LoRA": {"projections", "lora", "norm"},
}


@pytest.fixture(scope="module", params=[way for way in WAYS if way not in LIKE_OTHERS])
def way(request, made, photo_batch):
    """Name, base, adapter with every trained weight moved, and a batch: for tests that leave them as they are."""
    base, adapter = made(WAYS[request.param])
    return request.param, base, stirred(adapter), photo_batch(base)


@torch.no_grad()
def stirred(adapter, seed=1):
    """Every trained weight a little away from where it began, so that zeros hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.trained_parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return adapter


def unet(base, adapter, batch):
    return denoise(base, batch.latents, torch.arange(len(batch)) * 300 + 20, adapter.conditions(batch))


def text_only(base, batch, texts=None):
    """The bare base's output for these prompts."""
    states = base.text.encode(batch.prompts.general if texts is None else texts)
    added = {"text_embeds": states.pooled, "time_ids": batch.time_ids}
    timesteps = torch.arange(len(batch)) * 300 + 20
    return base.unet(batch.latents, timesteps, encoder_hidden_states=states.hidden, added_cond_kwargs=added).sample


def layer_norm(x, module):
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + module.eps) * module.weight + module.bias


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def written_out_fuse(module, word, embedding):
    """One class token [C] and one id embedding [C], by the formula, in double precision."""
    first, second = module.mlp1, module.mlp2
    hidden = layer_norm(torch.cat([word, embedding]), first.layernorm)
    hidden = word + first.fc2.weight @ gelu(first.fc1.weight @ hidden + first.fc1.bias) + first.fc2.bias
    inner = second.fc1.weight @ layer_norm(hidden, second.layernorm) + second.fc1.bias
    return layer_norm(hidden + second.fc2.weight @ gelu(inner) + second.fc2.bias, module.layer_norm)


def published_fuse(module, hidden, mask, embeddings):
    """What the published class does: [B, N, 1, C] id embeddings, counted over the whole batch as if it were one."""
    count = mask.sum().unsqueeze(0)
    valid = torch.arange(embeddings.shape[1])[None] < count[:, None]
    flat = embeddings.flatten(0, 1)[valid.flatten()].flatten(0, 1)
    fused = module.fuse(hidden.view(-1, hidden.shape[-1])[mask.flatten()], flat)
    hidden.view(-1, hidden.shape[-1]).masked_scatter_(mask.flatten()[:, None], fused)
    return hidden


def class_tokens(*starts_and_counts):
    mask = torch.zeros(len(starts_and_counts), 77, dtype=torch.bool)
    for row, (start, count) in enumerate(starts_and_counts):
        mask[row, start : start + count] = True
    return mask


@torch.no_grad()
def test_one_sample_fused_equals_the_formula_and_the_published_class():
    torch.manual_seed(0)
    module, hidden, embeddings = FuseModule(64), torch.randn(1, 77, 64), torch.randn(3, 64)
    mask = class_tokens((5, 3))
    ours = module(hidden, mask, embeddings)
    module.double()
    slow = torch.stack([written_out_fuse(module, hidden[0, 5 + i].double(), embeddings[i].double()) for i in range(3)])
    difference = (ours[0, 5:8] - slow).abs().max()
    assert difference < 2e-6, f"max |difference| {difference:.2e}"
    assert torch.equal(ours[~mask], hidden[~mask])
    module.float()
    difference = (ours - published_fuse(module, hidden.clone(), mask, embeddings[None, :, None])).abs().max()
    assert difference == 0, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_batches_equal_stacked_samples_where_the_published_class_fails():
    torch.manual_seed(0)
    module, hidden, embeddings = FuseModule(64), torch.randn(3, 77, 64), torch.randn(6, 64)
    mask = class_tokens((5, 3), (9, 1), (1, 2))
    together = module(hidden, mask, embeddings)
    parts = zip(range(3), torch.split(embeddings, [3, 1, 2]), strict=True)
    stacked = torch.cat([module(hidden[i : i + 1], mask[i : i + 1], own) for i, own in parts])
    difference = (together - stacked).abs().max()
    assert difference < 2e-6, f"max |difference| {difference:.2e}"
    padded = torch.zeros(3, 3, 1, 64)
    padded[mask.sum(1)[:, None] > torch.arange(3)] = embeddings[:, None]
    with pytest.raises(IndexError):
        published_fuse(module, hidden.clone(), mask, padded)


def test_fusing_leaves_the_given_hidden_states_alone():
    module, hidden = FuseModule(64), torch.randn(1, 77, 64)
    before = hidden.clone()
    module(hidden, class_tokens((5, 2)), torch.randn(2, 64)).sum().backward()
    assert torch.equal(hidden, before)


@torch.no_grad()
def test_face_tokens_equal_the_formula():
    torch.manual_seed(0)
    module, face, last = (
        QFormerPerceiver(8, 256, 2, 32).double(),
        torch.randn(1, 8).double(),
        torch.randn(1, 5, 32).double(),
    )
    first, _, second = module.token_proj
    tokens = second.weight @ gelu(first.weight @ face[0] + first.bias) + second.bias
    tokens = torch.stack([layer_norm(half, module.token_norm) for half in tokens.chunk(2)])
    resampler = module.perceiver_resampler
    latents, seen = tokens, [resampler.proj_in.weight @ token + resampler.proj_in.bias for token in last[0]]
    for attention, feed_forward in resampler.layers:
        normed = [layer_norm(latent, attention.norm2) for latent in latents]
        context = torch.stack([*(layer_norm(token, attention.norm1) for token in seen), *normed])
        keys, values = (context @ attention.to_kv.weight.T).chunk(2, dim=-1)
        rows = []
        for latent in normed:
            query = attention.to_q.weight @ latent
            heads = [
                torch.softmax(keys[:, d : d + 128] @ query[d : d + 128] / math.sqrt(128), 0) @ values[:, d : d + 128]
                for d in (0, 128)
            ]
            rows.append(attention.to_out.weight @ torch.cat(heads))
        latents = latents + torch.stack(rows)
        norm, up, _, down = feed_forward
        latents = torch.stack([x + down.weight @ gelu(up.weight @ layer_norm(x, norm)) for x in latents])
    out = torch.stack(
        [layer_norm(resampler.proj_out.weight @ x + resampler.proj_out.bias, resampler.norm_out) for x in latents]
    )
    difference = (module(face, last)[0] - (tokens + out)).abs().max()
    assert difference < 1e-10, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_the_first_half_of_an_id_embedding_is_clips_own_projection_at_first(made, photo_batch):
    base, adapter = made(WAYS["v1"])
    batch = photo_batch(base)
    used = batch.references.present
    _, embeddings = adapter._looked(batch, used)
    difference = (embeddings[:, 0, :32] - batch.references.clip.pooled[used]).abs().max()
    assert difference < 1e-6, f"max |difference| {difference:.2e}"
    assert embeddings.shape == (6, 1, 64)


def seen(conditions):
    """All that the UNet sees, streams laid open: absent tokens are zero in any batch."""
    streams = [(s.tokens if s.mask is None else s.tokens * s.mask[..., None]) for s in conditions.streams.values()]
    return [conditions.text, conditions.pooled, *streams]


def differences(together, apart):
    """max |difference| of each sample, shorter streams filled up with zeros."""
    for i, own in enumerate(apart):
        pairs = [(all_of[i], one[0]) for all_of, one in zip(seen(together), seen(own), strict=True)]
        yield max(float((all_of - longer(one, all_of)).abs().max()) for all_of, one in pairs)


def longer(tokens, like):
    return functional.pad(tokens, (0, 0, 0, len(like) - len(tokens))) if tokens.ndim == 2 else tokens


@torch.no_grad()
def test_a_ragged_batch_equals_its_samples_one_at_a_time(way, one_of):
    _, _, adapter, batch = way
    found = list(differences(adapter.conditions(batch), [adapter.conditions(one_of(batch, i)) for i in range(3)]))
    assert max(found) < 1e-5, f"max |difference| of each sample {found}"


@torch.no_grad()
def test_a_dropped_identity_gives_the_text_only_unet_exactly(way):
    _, base, adapter, batch = way
    plain = text_only(base, batch)
    difference = (unet(base, adapter, batch.without(identity=True)) - plain).abs().max()
    assert difference == 0, f"max |difference| {difference:.2e}"
    changed = (unet(base, adapter, batch) - plain).abs().amax((1, 2, 3))
    assert changed.min() > 1e-4, f"with references the output changes by {changed.tolist()}"


@torch.no_grad()
def test_a_dropped_text_drops_the_identity_too(way):
    _, base, adapter, batch = way
    empty = base.text.encode([""])
    for dropped in (batch.without(text=True), batch.without(text=True, identity=True)):
        conditions = adapter.conditions(dropped)
        difference = max((conditions.text - empty.hidden).abs().max(), (conditions.pooled - empty.pooled).abs().max())
        assert difference < 2e-6, f"max |difference| {difference:.2e}"
        assert not any(stream.mask.any() for stream in conditions.streams.values())


@torch.no_grad()
def test_drops_are_per_sample(way, one_of):
    _, _, adapter, batch = way
    no = torch.zeros(3, dtype=torch.bool)
    some = batch.replace(drop=Drop(torch.tensor([False, True, False]), torch.tensor([False, False, True]), no, no))
    parts = [batch, batch.without(text=True), batch.without(identity=True)]
    found = list(
        differences(adapter.conditions(some), [adapter.conditions(one_of(part, i)) for i, part in enumerate(parts)])
    )
    assert max(found) < 1e-5, f"max |difference| of each sample {found}"


def test_gradients_reach_every_trained_weight_and_no_frozen_one(way):
    name, base, adapter, batch = way
    adapter.zero_grad()
    groups = adapter.groups()
    assert {group.name for group in groups} == GROUPS[name]
    unet(base, adapter, batch).square().mean().backward()
    trained = {id(parameter) for group in groups for parameter in group.parameters}
    assert len(trained) == sum(len(group.parameters) for group in groups)
    for group in groups:
        reached = [bool(p.grad is not None and p.grad.abs().max() > 0) for p in group.parameters]
        assert all(reached), f"{group.name}: {reached.count(False)} of {len(reached)} weights without gradient"
    for module in (base.unet, base.text, base.clip, base.vae, adapter):
        frozen = [p for p in module.parameters() if id(p) not in trained]
        assert not any(p.requires_grad or p.grad is not None for p in frozen)
    assert trained <= {id(p) for p in adapter.parameters()}


def test_a_batch_that_drops_everything_still_has_a_gradient_for_each_weight(way):
    """The LoRA and the attentions always have one, in the UNet."""
    _, _, adapter, batch = way
    adapter.zero_grad()
    sum(part.square().sum() for part in seen(adapter.conditions(batch.without(text=True, identity=True)))).backward()
    own = {id(p) for p in adapter.id_encoder.parameters()}
    groups = {group.name: [p for p in group.parameters if id(p) in own] for group in adapter.groups()}
    missing = {name: sum(p.grad is None for p in parameters) for name, parameters in groups.items()}
    assert not any(missing.values()), f"weights without gradient {missing}"


def test_what_is_trained_is_what_the_settings_say(made):
    for way in LIKE_OTHERS:
        _, adapter = made(WAYS[way])
        groups = adapter.groups()
        assert {group.name for group in groups} == GROUPS[way]
        trained = [id(p) for group in groups for p in group.parameters]
        assert sorted(trained) == sorted(id(p) for p in adapter.parameters() if p.requires_grad)


@torch.no_grad()
def test_a_tower_of_its_own_sees_what_the_cached_states_say(made, photo_batch):
    base, online = made(WAYS["whole tower"])
    batch = photo_batch(base)
    cached = made(WAYS["v1"])[1]
    online.id_encoder.load_state_dict(cached.id_encoder.state_dict(), strict=False)
    assert online.needs(online.settings).pixels
    assert cached.needs(cached.settings).clip
    difference = (online.conditions(batch).text - cached.conditions(batch).text).abs().max()
    assert difference < 1e-5, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_further_references_than_the_most_are_not_used(made, photo_batch):
    base, adapter = made(PhotoMakerSettings(lora=None, max_references=2))
    batch = photo_batch(base)
    references = batch.references
    fewer = references.present.clone()
    fewer[0, 2] = False
    assert torch.equal(
        adapter.conditions(batch).text, adapter.conditions(batch.replace(references=_with(references, fewer))).text
    )


def _with(references, present):
    return type(references)(references.keys, present, references.faces, references.clip, references.embeddings)


@torch.no_grad()
def test_a_caption_without_a_class_word_is_text_only(made, photo_batch):
    base, adapter = made(WAYS["v1"])
    batch = photo_batch(base, positions=(23, -1, 25))
    changed = (unet(base, adapter, batch) - text_only(base, batch)).abs().amax((1, 2, 3))
    assert (changed > 0).tolist() == [True, False, True]


@torch.no_grad()
def test_the_identity_attention_reads_one_normed_token_a_reference(made, photo_batch):
    base, adapter = made(WAYS["attention"])
    batch = photo_batch(base)
    stream = adapter.conditions(batch).streams["identity"]
    assert torch.equal(stream.mask, batch.references.present)
    assert stream.tokens.shape == (3, 3, 64)
    _, embeddings = adapter._looked(batch, batch.references.present)
    difference = (stream.tokens[stream.mask] - functional.layer_norm(embeddings[:, 0], (64,))).abs().max()
    assert difference < 1e-6, f"max |difference| {difference:.2e}"
    assert not stream.tokens[~stream.mask].any()
    with_trigger = made(WAYS["v1"])[1].conditions(batch)
    assert torch.equal(adapter.conditions(batch).text, batch.prompts.states["general"].hidden)
    assert not torch.equal(with_trigger.text, batch.prompts.states["general"].hidden)


@torch.no_grad()
def test_the_second_head_begins_as_a_copy_and_is_another(made, photo_batch):
    base, adapter = made(WAYS["both"])
    batch = photo_batch(base)
    last, embeddings = adapter._looked(batch, batch.references.present)
    encoder = adapter.id_encoder
    assert torch.equal(encoder.stream_tokens(last, embeddings), encoder.layer_norm(embeddings))
    encoder.visual_projection_3.weight.add_(0.1)
    tokens = encoder.stream_tokens(last, embeddings)
    assert not torch.equal(tokens, encoder.layer_norm(embeddings))
    assert torch.equal(encoder.embeddings(last), embeddings)


@torch.no_grad()
def test_a_copied_lora_equals_the_merged_weights(made, photo_batch):
    base, adapter = made(WAYS["copied LoRA"])
    stirred(adapter)
    name = base.cross_layers()[3]
    attention = base.unet.get_submodule(name.removesuffix(".processor"))
    kv = base.unet.attn_processors[name].streams["identity"]
    assert isinstance(kv, LowRankKv)
    kv.to_k.copy(), kv.to_v.copy()
    stream = Stream(torch.randn(2, 3, 64))
    query = torch.randn(2, attention.heads, 5, attention.to_q.out_features // attention.heads)
    merged = [
        layer.base_layer.weight + layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        for layer in (attention.to_k, attention.to_v)
    ]
    key, value = ((stream.tokens @ weight.T).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for weight in merged)
    expected = functional.scaled_dot_product_attention(query, key, value)
    difference = (kv(query, stream, attention.heads) - expected).abs().max()
    assert difference < 1e-5, f"max |difference| {difference:.2e}"


@torch.no_grad()
def test_identity_embeddings_are_means_over_a_persons_references(made, photo_batch, one_of):
    for way in ("v1", "v2"):
        base, adapter = made(WAYS[way])
        batch = photo_batch(base)
        together = adapter.identity_embeddings(batch)
        assert together.shape == (3, 64)
        apart = torch.cat([adapter.identity_embeddings(one_of(batch, i)) for i in range(3)])
        difference = (together - apart).abs().max()
        assert difference < 1e-5, f"max |difference| {difference:.2e}"
        assert functional.cosine_similarity(together[0], together[1], dim=0) < 1 - 1e-4


def test_random_parts_depend_on_the_seed_alone(made):
    states = []
    for seed, outside in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(outside)
        states.append(made(PhotoMakerSettings(lora=LORA, version="v2", seed=seed))[1].state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@torch.no_grad()
def test_on_a_bfloat16_base_adapters_stay_float32(made, photo_batch):
    for way in ("whole tower", "copied LoRA"):
        base, adapter = made(WAYS[way], torch.bfloat16)
        assert {p.dtype for p in adapter.parameters()} == {torch.float32}
        batch = photo_batch(base)
        with torch.autocast("cpu", torch.bfloat16):
            assert unet(base, adapter, batch).isfinite().all()
            assert adapter.identity_embeddings(batch).dtype == torch.float32


def test_settings_that_cannot_be_are_refused():
    for faulty, message in (
        ({"identity_path": "both", "version": "v2"}, "both needs version v1"),
        ({"copy_lora": True}, "copy_lora: needs lora, and identity_path"),
        ({"copy_lora": True, "identity_path": "attention", "lora": None}, "copy_lora: needs lora"),
    ):
        with pytest.raises(ValidationError, match=message):
            PhotoMakerSettings(**faulty)
