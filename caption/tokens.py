"""How many CLIP tokens a text has: counted by the real tokenizer, or estimated where it is not at hand.

Never downloads. Knows nothing of captions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

TokenCounter = Callable[[str], int]
"""CLIP's tokens of a text, without its begin and end tokens."""

CLIP = "openai/clip-vit-large-patch14"
"""SD1.5's text encoder and SDXL's first; all of CLIP's text encoders share one vocabulary."""
_VOCABULARY = 49_408
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
_LETTERS_A_TOKEN = 5


def estimated_tokens(text: str) -> int:
    """About the most CLIP tokens that an English text has.

    A word counts one for each five letters begun, a digit or a run of signs one, a word with a letter
    outside ASCII one per UTF-8 byte. Rare short words are two tokens in truth, but nearly all English words
    of six to ten letters are one, so the sum over a sentence is too high rather than too low. An estimate,
    all the same, not a proof.
    """
    return sum(_piece_tokens(piece) for piece in _PIECE.findall(text))


def clip_token_counter(tokenizer: str = CLIP) -> TokenCounter | None:
    """The real tokenizer, from a folder or the Hugging Face cache; None without it or without transformers."""
    try:
        if not _is_at_hand(tokenizer):  # transformers takes seconds to import
            return None
        from transformers import CLIPTokenizer

        clip = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except (ImportError, OSError, ValueError):
        return None
    if len(clip.get_vocab()) < _VOCABULARY:  # transformers 5 makes an empty tokenizer of a folder without files
        return None
    return lambda text: len(clip(text, add_special_tokens=False)["input_ids"])


def _is_at_hand(tokenizer: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return os.path.isdir(tokenizer) or isinstance(try_to_load_from_cache(tokenizer, "vocab.json"), str)


def _piece_tokens(piece: str) -> int:
    if not piece.isascii():
        return len(piece.encode())
    return -(-len(piece) // _LETTERS_A_TOKEN) if piece.isalpha() else 1
