"""A Qwen2.5-VL with random weights, its tokenizer and processor, saved as the real one is: no download.

Configuration, processor and chat format are the real classes and tokens; only the weights say nothing. Tests run on
the tiny size, `make bench-gpu` on the 3B size. Knows nothing of captions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The published special tokens of Qwen2.5-VL, in the order of their numbers.
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Gives the same text as the published one for text and one image a message."""
_PIECE = 9
"""Characters of a recited token."""
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "text": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 512, "mrope_section": [2, 3, 3],
        },
        "vision": {
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "fullatt_block_indexes": [1],
        },
    },
    "small": {
        "text": {
            "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 4096, "mrope_section": [8, 12, 12],
        },
        "vision": {
            "depth": 4, "hidden_size": 160, "intermediate_size": 430, "num_heads": 4, "fullatt_block_indexes": [1, 3],
        },
    },
    "3b": {
        "text": {
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 2, "vocab_size": 151_936, "mrope_section": [16, 24, 24],
        },
        "vision": {
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
}  # fmt: skip
"""The sizes of Qwen/Qwen2.5-VL-3B-Instruct's config.json, and ones that a test has time for."""


def save_random_qwen(folder: Path, size: str = "tiny", seed: int = 0, chunks: tuple[str, ...] = ()) -> Path:
    """Write model, tokenizer and processor for `from_pretrained`. `chunks`: texts that are one token each."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    processor = processor_with(chunks)
    processor.save_pretrained(folder)
    torch.manual_seed(seed)
    with _in_dtype("bfloat16" if size == "3b" else "float32"):
        model = Qwen2_5_VLForConditionalGeneration(config_of(size, processor.tokenizer))
    model.generation_config.eos_token_id = [processor.tokenizer.convert_tokens_to_ids(t) for t in SPECIAL[2::-2]]
    model.generation_config.pad_token_id = processor.tokenizer.convert_tokens_to_ids(SPECIAL[0])
    model.save_pretrained(folder)
    return folder


def save_reciting_qwen(folder: Path, text: str, size: str = "tiny") -> Path:
    """One that says `text` whatever it is asked: each token of it calls up the next one.

    Attention and feed-forward add nothing, so that what comes out follows from the last token alone.
    """
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    pieces = tuple(text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    width = SIZES[size]["text"]["hidden_size"]
    assert len(set(pieces)) == len(pieces) < width, "each piece of the text must be another, and there must be few"
    save_random_qwen(folder, size, chunks=pieces)
    tokenizer = processor_with(pieces).tokenizer
    (newline,) = tokenizer("\n").input_ids  # what the prompt ends with
    said = [newline, *(tokenizer.convert_tokens_to_ids(piece) for piece in pieces), tokenizer.eos_token_id]
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding, head = model.get_input_embeddings().weight, model.lm_head.weight
        embedding[said] = torch.eye(width)[: len(said)]
        head.zero_()
        head[said[1:]] = torch.eye(width)[: len(said) - 1]
    model.save_pretrained(folder)
    return folder


def config_of(size: str, tokenizer: Any) -> Any:
    """The real configuration class, with this tokenizer's numbers for the special tokens."""
    from transformers import Qwen2_5_VLConfig

    text, vision = dict(SIZES[size]["text"]), dict(SIZES[size]["vision"])
    sections = text.pop("mrope_section")
    number = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "rope_parameters": {"rope_type": "default", "mrope_section": sections, "rope_theta": 1_000_000.0},
            "bos_token_id": number["<|endoftext|>"],
            "eos_token_id": number["<|im_end|>"],
        },
        vision_config={**vision, "out_hidden_size": text["hidden_size"]},
        image_token_id=number["<|image_pad|>"],
        video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
        tie_word_embeddings=size == "3b",
    )


def processor_with(chunks: tuple[str, ...] = ()) -> Any:
    """The real processor over a tokenizer of bytes, the special tokens and `chunks`."""
    from tokenizers import AddedToken, pre_tokenizers
    from transformers import Qwen2_5_VLProcessor, Qwen2Tokenizer, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(vocab={letter: n for n, letter in enumerate(letters)}, merges=[], eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(chunk, special=False, normalized=False) for chunk in chunks])
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )


@contextlib.contextmanager
def _in_dtype(name: str) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
