"""A prompt with a person in it, for the methods that know them by a word. Knows no tokenizer.

A position is the offset just behind the class word, as in `Prompts.trigger_position`; −1: there is none.
"""

from __future__ import annotations

import re

from train.data.batch import Batch

ANYBODY = "person"
"""The class word of captions that have none."""


def class_word(prompt: str, position: int) -> str:
    """The last word before `position`."""
    words = re.findall(r"\w+", prompt[:position]) if position > 0 else []
    return words[-1] if words else ANYBODY


def trained_with(batch: Batch, prompt: str | None) -> tuple[list[str], list[int]]:
    """(prompts, positions) of a training batch: its captions, or `prompt` with each sample's class word in it."""
    captions, positions = batch.prompts.general, batch.prompts.trigger_position
    if prompt is None:
        return list(captions), list(positions)
    before, _, after = prompt.partition("{person}")
    words = [class_word(text, at) for text, at in zip(captions, positions, strict=True)]
    return [f"{before}{word}{after}" for word in words], [len(before) + len(word) for word in words]


def with_identifier(prompt: str, position: int, identifier: str) -> str:
    """The identifier stands right before the class word, unless the prompt has it already or has no class word."""
    if position <= 0 or re.search(rf"(?<!\S){re.escape(identifier)}(?!\S)", prompt):
        return prompt
    start = position - len(class_word(prompt, position))
    return f"{prompt[:start]}{identifier} {prompt[start:]}"


def with_placeholder(prompt: str, position: int, word: str = "x") -> tuple[str, int]:
    """`word` stands for the class word; and the new position. The default is one token in every CLIP vocabulary."""
    if position <= 0:
        return prompt, position
    start = position - len(class_word(prompt, position))
    return f"{prompt[:start]}{word}{prompt[position:]}", start + len(word)
