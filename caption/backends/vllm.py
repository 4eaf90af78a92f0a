"""Qwen2.5-VL (or another vision-language model) on vLLM's engine, inside the worker.

The engine batches by itself, so `caption.batch_size` may be hundreds. Holds answers to the JSON schema. It is opened in
the worker's own process rather than as a Ray Data stage: what flows through Ray stays the numbers of buckets.
"""

from __future__ import annotations

from typing import Any

from caption.answer import SCHEMA
from caption.chat import Conversation, End, NoReply, Reply, openai_messages
from caption.config import DEFAULT_MODEL, CaptionConfig
from crawl.errors import InputError, one_line


class VllmChat:
    """See `Chat`."""

    def __init__(self, engine: Any, parameters: Any, config: CaptionConfig) -> None:
        """`engine`: a vllm.LLM; `parameters`: the module vllm.sampling_params."""
        self._engine = engine
        common = sampling(config)
        schema = parameters.StructuredOutputsParams(json=SCHEMA)
        self._free = parameters.SamplingParams(**common)
        self._structured = parameters.SamplingParams(**common, structured_outputs=schema)

    def ask(self, conversations: list[Conversation]) -> list[Reply | NoReply]:
        """Raises the engine's errors for the whole batch."""
        outputs = self._engine.chat(
            [openai_messages(c) for c in conversations],
            [self._structured if c.structured else self._free for c in conversations],
            use_tqdm=False,
        )
        return [_reply(output) for output in outputs]


def sampling(config: CaptionConfig) -> dict[str, Any]:
    """Arguments of SamplingParams, whether or not an answer is structured."""
    return {"max_tokens": config.max_new_tokens, "temperature": config.temperature, "seed": 0}


def engine_arguments(config: CaptionConfig) -> dict[str, Any]:
    """Arguments of `vllm.LLM`."""
    return {
        "model": config.model or DEFAULT_MODEL,
        "revision": config.revision,
        "seed": 0,
        "tensor_parallel_size": config.vllm.tensor_parallel,
        "gpu_memory_utilization": config.vllm.gpu_memory_utilization,
        "max_model_len": config.vllm.max_model_len,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_kwargs": {"max_pixels": config.max_pixels},
    }


def load_vllm(config: CaptionConfig) -> VllmChat:
    """Raises InputError when vLLM is missing or will not start."""
    try:
        import vllm
        from vllm import sampling_params
    except ImportError as error:
        raise InputError(
            f"caption.backend: vllm: cannot be imported ({one_line(error)[:100]}): install vllm where the workers run, "
            "or use caption.backend: endpoint with a server"
        ) from None
    try:
        engine = vllm.LLM(**engine_arguments(config))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"caption.model: {config.model or DEFAULT_MODEL}: vLLM: {one_line(error)[:300]}") from None
    return VllmChat(engine, sampling_params, config)


def _reply(output: Any) -> Reply:
    said = output.outputs[0]
    end: End = "length" if said.finish_reason == "length" else "stop"
    return Reply(said.text, len(output.prompt_token_ids or ()), len(said.token_ids), end)
