"""The tiny tokenizer: every listed word is one token; tokenizers used by two threads; depths of a CLIP tower."""

import threading
import time

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from shards.encoders import tiny
from shards.encoders.config import BaseConfig
from shards.encoders.load import load_text
from shards.encoders.pictures import ClipVision
from shards.encoders.text import pieces


def test_every_listed_word_is_one_token_and_others_are_spelled():
    tokenizer = tiny.tokenizer()
    words = tiny._WORDS.split()
    split = {word: len(ids) for word in words if len(ids := tokenizer(word, add_special_tokens=False).input_ids) != 1}
    assert split == {}
    assert len({tokenizer(word, add_special_tokens=False).input_ids[0] for word in words}) == len(set(words))
    assert tokenizer.decode(tokenizer("dentist", add_special_tokens=False).input_ids) == "dentist"
    assert len(tokenizer("dentist", add_special_tokens=False).input_ids) > 1


def test_two_threads_share_the_tokenizers():
    """As the loop's prefetching thread and an adapter that edits token ids do: each gets what it asked for."""
    text, wrong, stop = load_text(BaseConfig()), [], threading.Event()

    def unpadded():
        while not stop.is_set():
            found = pieces(text.tokenizers[0], ["a woman", "a man"])
            wrong.extend(row for row in found if len(row) != 2)

    thread = threading.Thread(target=unpadded)
    thread.start()
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        wrong.extend(ids.shape for ids in text.ids(["a man"]) if ids.shape != (1, 77))
    stop.set()
    thread.join()
    assert wrong == []


@torch.no_grad()
def test_scales_of_a_tower_of_24_blocks_are_what_blocks_4_to_20_give():
    config = CLIPVisionConfig(
        image_size=32, patch_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=24, num_attention_heads=1
    )
    clip = ClipVision(CLIPVisionModelWithProjection(config).eval())
    pixels = torch.randn(2, 3, 32, 32)
    hidden = clip.model(pixels, output_hidden_states=True).hidden_states
    scales = clip.states(pixels).scales
    assert scales.shape == (2, 5, 5, 8)
    for place, block in enumerate((4, 8, 12, 16, 20)):
        assert torch.equal(scales[:, place], hidden[block])
