"""Qwen2.5-VL through transformers, in this process: batched with left padding, bf16 on a GPU, fp32 on a CPU.

Knows nothing of prompts or captions. There is no constrained decoding here: the prompt asks for JSON, the reader of
answers is tolerant, and what is not valid is asked for again.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from caption.chat import Conversation, End, NoReply, Reply, messages
from caption.config import DEFAULT_MODEL, CaptionConfig
from crawl.errors import InputError, one_line


class QwenChat:
    """See `Chat`."""

    def __init__(self, model: Any, processor: Any, config: CaptionConfig) -> None:
        """`model`: a Qwen2_5_VLForConditionalGeneration; `processor`: its Qwen2_5_VLProcessor."""
        self._model, self._processor, self._config = model.eval(), processor, config
        processor.tokenizer.padding_side = "left"  # a decoder goes on where the prompt ends
        self._generation = _generation(model.generation_config, config)

    def ask(self, conversations: list[Conversation]) -> list[Reply | NoReply]:
        """Raises torch's errors, such as out-of-memory, for the whole batch."""
        inputs = self.inputs(conversations).to(self._model.device)
        written = self.generate(inputs)
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        return [self._reply(tokens, n) for tokens, n in zip(written.tolist(), prompt_tokens, strict=True)]

    def inputs(self, conversations: list[Conversation]) -> Any:
        """Token numbers (batch × longest prompt, padded on the left), patches of all photos, and their grids."""
        from qwen_vl_utils import process_vision_info

        said = [messages(c, self._photo(c.image_jpeg)) for c in conversations]
        texts = [self._processor.apply_chat_template(s, tokenize=False, add_generation_prompt=True) for s in said]
        photos, _ = process_vision_info(said)
        # The photos have their final size by now; the processor would only look at it again.
        return self._processor(text=texts, images=photos, padding=True, do_resize=False, return_tensors="pt")

    def generate(self, inputs: Any) -> Any:
        """Token numbers (batch × longest answer) of the answers alone. All the time inside the model is in here."""
        import torch

        with torch.inference_mode():
            whole = self._model.generate(**inputs, generation_config=self._generation)
        return whole[:, inputs["input_ids"].shape[1] :]

    def _photo(self, jpeg: bytes) -> dict[str, Any]:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        return {"type": "image", "image": image, "max_pixels": self._config.max_pixels}

    def _reply(self, tokens: list[int], prompt_tokens: int) -> Reply:
        ends = set(self._generation.eos_token_id)
        length = next((n for n, token in enumerate(tokens) if token in ends), None)
        text = self._processor.tokenizer.decode(tokens[:length], skip_special_tokens=True)
        end: End = "stop" if length is not None else "length"
        return Reply(text, prompt_tokens, len(tokens) if length is None else length + 1, end)


def load_qwen(config: CaptionConfig) -> QwenChat:
    """The model and its processor, from the hub's cache, the hub, or a folder. Raises InputError."""
    try:
        import torch
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(f"caption.backend: qwen: {error.name} is missing: pip install 'personae[caption]'") from None
    name = config.model or DEFAULT_MODEL
    on_gpu = torch.cuda.is_available()
    where = {"dtype": torch.bfloat16, "device_map": "auto"} if on_gpu else {"dtype": torch.float32}
    logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(name, revision=config.revision or "main")
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(name, revision=config.revision or "main", **where)
    except (OSError, ValueError) as error:
        raise InputError(f"caption.model: {name}: cannot be loaded: {one_line(error)[:300]}") from None
    return QwenChat(model, processor, config)


def _generation(own: Any, config: CaptionConfig) -> Any:
    """The model's own generation settings, with ours in their place."""
    from transformers import GenerationConfig

    settings = own.to_dict()
    ends = own.eos_token_id
    settings["eos_token_id"] = list(ends) if isinstance(ends, list | tuple) else [ends]
    settings["max_new_tokens"], settings["do_sample"] = config.max_new_tokens, config.temperature > 0
    if config.temperature > 0:
        settings["temperature"] = config.temperature
    else:
        for name in ("temperature", "top_p", "top_k"):  # said of sampling only
            settings.pop(name, None)
    settings.pop("max_length", None)
    return GenerationConfig.from_dict(settings)
