"""What vLLM's engine is told. vLLM itself is not run: a stand-in with the signatures of version 0.33 is.

The conversations are rendered by the real processor's chat template, as the engine does it.
"""

import dataclasses
import json
import sys
import types

import pytest

from caption.answer import SCHEMA
from caption.backends.vllm import engine_arguments, load_vllm
from caption.chat import Conversation, Reply, openai_messages
from caption.config import CaptionConfig
from caption.prompt import load_prompt
from crawl.errors import InputError


@dataclasses.dataclass
class StructuredOutputsParams:
    json: str | dict | None = None
    regex: str | None = None


@dataclasses.dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    structured_outputs: StructuredOutputsParams | None = None


class LLM:
    """`vllm.LLM`: further keywords are those of EngineArgs."""

    def __init__(
        self, model: str, *, tensor_parallel_size: int = 1, dtype: str = "auto", revision: str | None = None,
        seed: int = 0, gpu_memory_utilization: float = 0.92, mm_processor_kwargs: dict | None = None,
        max_model_len: int | None = None, limit_mm_per_prompt: dict | None = None,
    ):  # fmt: skip
        self.model = model
        if model == "none":
            raise RuntimeError("Engine core initialization failed.\nSee above.")

    def chat(self, messages, sampling_params=None, use_tqdm=True):
        assert len(messages) == len(sampling_params)
        self.asked = list(zip(messages, sampling_params, strict=True))
        return [self.output(params) for params in sampling_params]

    def output(self, params):
        said = types.SimpleNamespace(
            text="words", token_ids=[1, 2, 3], finish_reason="stop" if params.structured_outputs else "length"
        )
        return types.SimpleNamespace(outputs=[said], prompt_token_ids=[0] * 50)


@pytest.fixture
def vllm(monkeypatch):
    module, parameters = types.ModuleType("vllm"), types.ModuleType("vllm.sampling_params")
    module.LLM, module.sampling_params = LLM, parameters
    parameters.SamplingParams, parameters.StructuredOutputsParams = SamplingParams, StructuredOutputsParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)


def config(**settings):
    return CaptionConfig.model_validate({"backend": "vllm", **settings})


def talks():
    prompt = load_prompt("thesis")
    return [
        Conversation("1" * 16, b"\xff\xd8", prompt.system, (prompt.asks[0],), False),
        Conversation("1" * 16, b"\xff\xd8", prompt.system, (prompt.asks[0], "A woman.", prompt.asks[1]), True),
    ]


def test_the_engine_is_made_of_the_settings(vllm):
    arguments = engine_arguments(
        config(model="Qwen/Qwen2.5-VL-32B-Instruct", revision="abc", max_pixels=100_352, vllm={"tensor_parallel": 4})
    )
    assert arguments["model"] == "Qwen/Qwen2.5-VL-32B-Instruct"
    assert (arguments["revision"], arguments["tensor_parallel_size"]) == ("abc", 4)
    assert arguments["mm_processor_kwargs"] == {"max_pixels": 100_352}
    assert arguments["limit_mm_per_prompt"]["image"] == 1
    LLM(**arguments)


def test_only_the_structured_turn_is_held_to_the_schema(vllm):
    chat = load_vllm(config(max_new_tokens=200))
    assert chat.ask(talks()) == [Reply("words", 50, 3, "length"), Reply("words", 50, 3)]
    (_, free), (_, structured) = chat._engine.asked
    assert (free.max_tokens, free.temperature, free.structured_outputs) == (200, 0.0, None)
    assert structured.structured_outputs.json == SCHEMA
    assert (structured.max_tokens, structured.temperature) == (200, 0.0)


@pytest.mark.slow
def test_the_conversation_is_rendered_as_the_qwen_back_end_renders_it(vllm):
    pytest.importorskip("transformers")
    from benchmarks.random_qwen import processor_with

    template = processor_with().apply_chat_template
    for talk in talks():
        rendered = template(openai_messages(talk), tokenize=False, add_generation_prompt=True)
        assert rendered.count("<|vision_start|><|image_pad|><|vision_end|>") == 1
        assert rendered.endswith(f"{talk.turns[-1]}<|im_end|>\n<|im_start|>assistant\n")
        assert rendered.startswith(f"<|im_start|>system\n{talk.system}<|im_end|>\n<|im_start|>user\n<|vision_start|>")
    assert json.dumps([openai_messages(talk) for talk in talks()])


def test_an_engine_that_does_not_start_is_one_line(vllm):
    with pytest.raises(InputError, match=r"caption\.model: none: vLLM: Engine core initialization failed") as error:
        load_vllm(config(model="none"))
    assert "\n" not in str(error.value)


def test_a_machine_without_vllm_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(
        InputError, match=r"caption\.backend: vllm: cannot be imported.*or use caption\.backend: endpoint"
    ):
        load_vllm(config())
