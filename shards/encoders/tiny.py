"""`tiny`: the real classes of SDXL's parts, small and random from a seed, so that everything runs without a network.

The tokenizer is a real CLIP tokenizer over letters and a short list of English words. Nothing here is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from shards.encoders.text import MAX_TOKENS

TEXT_WIDTH = 32
CONTEXT_WIDTH = 2 * TEXT_WIDTH
POOLED_WIDTH = 32
CLIP_WIDTH = 32
LATENT_FACTOR = 4
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_SIGNS = ".,;:-'\"!?()/&+%#"
_WORDS = """
a an and are around arms art at background beard behind black blue blurred body boy bright brown building by camera
casual centre city close clothes coat cool dark dim dress face faces facing feet figure front full girl grass green grey
hair half hand hands hat head shoulders hips holding image in indoors is jacket jeans left legs length light long look
looking looks low man mostly next of off on one outdoors outside over person photo picture pink plain portrait purple
red right room scarf shirt short sitting skirt sky slim smile some standing street striped suit tall the three tie to
toned towards tree trees trousers turned two up upper view waist wall warm watch wearing white window with woman yellow
young
"""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's CPU generator seeded inside, as it was outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tokenizer() -> CLIPTokenizer:
    """Byte pairs that spell each listed word in one token and every other one letter by letter."""
    characters = list(_LETTERS + _SIGNS)
    vocabulary = {token: number for number, token in enumerate([*characters, *(f"{c}</w>" for c in characters)])}
    merges: dict[tuple[str, str], int] = {}
    for word in _WORDS.split():
        built, *parts = _spelled(word, merges)
        for part in parts:
            merges[built, part] = len(merges)
            built += part
            vocabulary.setdefault(built, len(vocabulary))
    for special in ("<|startoftext|>", "<|endoftext|>"):  # the end token has the greatest id, as in CLIP's vocabulary
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=MAX_TOKENS)


def _spelled(word: str, merges: dict[tuple[str, str], int]) -> list[str]:
    """A word's tokens by the byte pairs so far, the first pair first."""
    parts = [*word[:-1], f"{word[-1]}</w>"]
    while known := [pair for pair in itertools.pairwise(parts) if pair in merges]:
        pair = min(known, key=merges.__getitem__)
        at = list(itertools.pairwise(parts)).index(pair)
        parts[at : at + 2] = ["".join(pair)]
    return parts


def text_models(seed: int, tokens: CLIPTokenizer) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two encoders of width 32, as SDXL has two."""
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=POOLED_WIDTH,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    with seeded(seed + 1):
        return CLIPTextModel(config).eval(), CLIPTextModelWithProjection(config).eval()


def vae(seed: int) -> AutoencoderKL:
    """Four latent channels at a quarter of the side."""
    with seeded(seed + 2):
        return AutoencoderKL(
            block_out_channels=(16, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            scaling_factor=1.0,
        ).eval()


def clip_vision(seed: int) -> CLIPVisionModelWithProjection:
    """64 px, 16 patches, width 32. Begins at twice CLIP's deviations: at one, all pictures look alike to it."""
    config = CLIPVisionConfig(
        image_size=64,
        patch_size=16,
        hidden_size=CLIP_WIDTH,
        intermediate_size=4 * CLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=CLIP_WIDTH,
        initializer_factor=2.0,
    )
    with seeded(seed + 3):
        return CLIPVisionModelWithProjection(config).eval()
