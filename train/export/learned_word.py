"""A learned word in a diffusers pipeline: its file by `load_textual_inversion`, its prompts by the pipeline itself.

Knows no adapter: what the trainer makes of the same prompts is for others to compare.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from train.adapters.adapter import Conditions
from train.adapters.published import read_weights
from train.adapters.words import with_placeholder
from train.data.batch import Batch

_SDXL = {"clip_l": "", "clip_g": "_2"}
"""Tensor in the file → end of the name of its text encoder and tokenizer in the pipeline."""


def with_word(pipeline: Any, path: str, token: str) -> Callable[[Batch], Conditions]:
    """How the pipeline reads a batch's prompts, `token` in place of their class word. Changes encoders of its own."""
    sdxl = "text_encoder_2" in pipeline.components
    for end in _SDXL.values() if sdxl else ("",):
        _own(pipeline, end)
    if sdxl:
        state = read_weights(path)
        for name, end in _SDXL.items():
            parts = {part: getattr(pipeline, f"{part}{end}") for part in ("text_encoder", "tokenizer")}
            pipeline.load_textual_inversion(state[name], token=token, **parts)
        # published configurations name a wrong end token, 2; CLIP then pools at the highest id, which is the new word
        pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id
    else:
        pipeline.load_textual_inversion(path)

    def read(batch: Batch) -> Conditions:
        both = zip(batch.prompts.general, batch.prompts.trigger_position, strict=True)
        prompts = [with_placeholder(text, at, token)[0] for text, at in both]
        told = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        text, _, *pooled = pipeline.encode_prompt(prompts, device=pipeline.device, **told)
        return Conditions(text, pooled[0] if sdxl else None, batch.time_ids if sdxl else None)

    return read


def _own(pipeline: Any, end: str) -> None:
    """The loader writes into the tokenizer and the table of embeddings: copies of these, all other weights shared."""
    model = getattr(pipeline, f"text_encoder{end}")
    table = model.get_input_embeddings().weight
    shared = {id(weight): weight for weight in model.parameters() if weight is not table}
    setattr(pipeline, f"text_encoder{end}", copy.deepcopy(model, shared))
    setattr(pipeline, f"tokenizer{end}", copy.deepcopy(getattr(pipeline, f"tokenizer{end}")))
