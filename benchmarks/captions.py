"""`python -m benchmarks.captions`: what the caption stage costs beyond its model, and how fast a Qwen2.5-VL answers.

Without arguments: the stage's wall time against the time inside the model, for a back-end of fixed cost and for a small
Qwen2.5-VL that recites a caption; 512² crops, known replies written as always. `gpu [--size 3b|tiny] [--batches …]`:
captions/s and memory of a Qwen2.5-VL with random weights of the published size, by batch size.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.random_qwen import save_random_qwen, save_reciting_qwen
from caption import captioner as table
from caption.backends import qwen
from caption.backends.qwen import QwenChat, load_qwen
from caption.chat import Chat, Conversation, NoReply, Reply
from caption.config import CaptionConfig, CaptionRun
from caption.prompt import load_prompt
from caption.stage import CaptionStage
from crawl.output import Output
from crawl.photo import Photo, photo_key
from crawl.tables import Entry, Tables
from filter.portrait import Portrait

_SIDE_PX = 512
_BATCHES = 12
_ROUNDS = 3
"""The best of so many is printed: what else the machine does is not the stage's."""
_QWEN_PORTRAITS = 24
_FIXED = ((0.01, 32), (0.05, 8))
"""(seconds a reply, batch): an engine that batches by itself, and a model in this process."""
_NEW_TOKENS = 160
"""About what a JSON answer takes; random weights never end by themselves."""
ANSWER = json.dumps(
    {
        "general": "A bright photo of a woman in a park.",
        "background": "Green trees behind a lawn.",
        "body": "Slim, standing upright in a red coat.",
        "class_word": "woman",
    }
)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.captions")
    parser.add_argument("what", nargs="?", choices=["overhead", "gpu"], default="overhead")
    parser.add_argument("--size", choices=["3b", "tiny"], default="3b", help="of the random weights (gpu)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new-tokens", type=int, default=_NEW_TOKENS)
    parsed = parser.parse_args()
    if parsed.what == "gpu":
        speed(parsed.size, parsed.batches, parsed.new_tokens)
    else:
        overhead()


def overhead() -> None:
    """The table of wall against model time."""
    print("| back-end | prompt | batch | portraits | wall s | model s | rest, ms a portrait | its CPU | wall / model |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for prompt in ("single", "thesis"):
        for seconds, batch in _FIXED:
            rows = [_row(prompt, batch, _BATCHES * batch, "fixed", _Fixed(seconds).into) for _ in range(_ROUNDS)]
            best = min(rows, key=lambda row: float(row.split("|")[-2]))
            print(f"| fixed, {seconds * 1000:.0f} ms a reply {best}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        small = str(save_reciting_qwen(Path(folder) / "small", ANSWER, size="small"))
        print(f"| Qwen2.5-VL, small, CPU {_row('single', 8, _QWEN_PORTRAITS, small, _timed_qwen(small))}")


def speed(size: str, batches: list[int], new_tokens: int) -> None:
    """The table of captions/s and memory by batch size, on the GPU if there is one."""
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} thread"
    with tempfile.TemporaryDirectory() as folder:
        save_random_qwen(Path(folder) / size, size)
        settings = {"backend": "qwen", "model": f"{folder}/{size}", "max_new_tokens": new_tokens}
        chat = load_qwen(CaptionConfig.model_validate(settings))
    chat._generation.min_new_tokens = new_tokens
    prompt = load_prompt("single")
    print(
        f"Qwen2.5-VL {size}, random weights, {chat._model.dtype}, {_SIDE_PX}² px, {new_tokens} new tokens, {device}\n"
    )
    print("| batch | captions/s | new tokens/s | in generate | peak GPU memory GB |")
    print("|---:|---:|---:|---:|---:|")
    for batch in batches:
        talks = [Conversation("", _jpeg(n), prompt.system, prompt.asks, True) for n in range(batch)]
        print(_speed_row(chat, talks, new_tokens), flush=True)


def _speed_row(chat: QwenChat, talks: list[Conversation], new_tokens: int) -> str:
    import torch

    on_gpu = torch.cuda.is_available()
    spent = {"model": 0.0, "model CPU": 0.0}
    chat.ask(talks)  # the first of a size compiles and allocates
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    chat.generate, whole = _timed(chat.generate, spent), chat.generate  # type: ignore[method-assign]
    start, rounds = time.perf_counter(), 3
    for _ in range(rounds):
        replies = chat.ask(talks)
        assert all(isinstance(reply, Reply) and reply.new_tokens == new_tokens for reply in replies)
    wall = time.perf_counter() - start
    chat.generate = whole  # type: ignore[method-assign]
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if on_gpu else "no GPU"
    rate = rounds * len(talks) / wall
    return f"| {len(talks)} | {rate:.2f} | {rate * new_tokens:.0f} | {spent['model'] / wall:.1%} | {memory} |"


class _Fixed:
    """A model that takes its time and says the same."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spent: dict[str, float] = {}

    def into(self, spent: dict[str, float]) -> Chat:
        self._spent = spent
        return self

    def ask(self, conversations: list[Conversation]) -> list[Reply | NoReply]:
        _timed(time.sleep, self._spent)(self._seconds * len(conversations))
        return [Reply(ANSWER, 400, 60) for _ in conversations]


def _timed_qwen(folder: str) -> Callable[[dict[str, float]], Chat]:
    def load(spent: dict[str, float]) -> Chat:
        chat = qwen.load_qwen(CaptionConfig.model_validate({"backend": "qwen", "model": folder}))
        chat.generate = _timed(chat.generate, spent)  # type: ignore[method-assign]
        return chat

    return load


def _row(prompt: str, batch: int, portraits: int, model: str, load: Callable[[dict[str, float]], Chat]) -> str:
    """One bucket through the stage after another of one portrait: models and libraries load once in a worker's life."""
    spent = {"model": 0.0, "model CPU": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder)
        for bucket, count in enumerate((1, portraits)):
            rows = (Entry(p.key, p) for p in map(_portrait, range(bucket, bucket + count)))
            Tables(output).write("crop", bucket, Portrait, rows, "f")
        caption = {"backend": "qwen", "model": model, "revision": "1", "prompt": prompt, "batch_size": batch}
        run = CaptionRun.model_validate({"output": folder, "crawl": {"root": "."}, "caption": caption})
        chat = load(spent)
        studio = table._open_chat(lambda config, output: chat)
        stage = CaptionStage(run, output, dataclasses.replace(table.BACKENDS["qwen"], open=studio))
        stage.run(0, "f", lambda stage, photos: None)
        spent |= {"model": 0.0, "model CPU": 0.0}
        start, start_cpu = time.perf_counter(), time.process_time()
        stage.run(1, "f", lambda stage, photos: None)
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        captions = sum(r is None for r in Tables(output).rejections("caption", 1).values())
    assert captions == portraits, f"{captions} captions of {portraits} portraits"
    model_s, each = spent["model"], 1000 / portraits
    rest = f"{(wall - model_s) * each:.1f} | {(cpu - spent['model CPU']) * each:.1f}"
    return f"| {prompt} | {batch} | {portraits} | {wall:.2f} | {model_s:.2f} | {rest} | {wall / model_s:.3f} |"


def _portrait(number: int) -> Portrait:
    identity = f"{number // 30:016x}"
    key = photo_key(identity, str(number), "0" * 64)
    jpeg = _jpeg(number)
    points = tuple((256.0 + x, 200.0 + y) for x, y in ((-40, -20), (40, -20), (0, 15), (-30, 40), (30, 40)))
    return Portrait(
        key, identity, Photo(key, identity, f"{number}.jpg", "0" * 64, len(jpeg)), 1024, 1024, (0, 0, 1024, 1024),
        _SIDE_PX, (180.0, 120.0, 330.0, 300.0), points, 0.9, 1, 0.7, "cluster", 100.0, 0.3, None, None, "none",
        ("none",), jpeg, jpeg[:1],
    )  # fmt: skip


def _jpeg(number: int) -> bytes:
    """A crop with as much detail as a photo's has, in bytes."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _timed(function: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        start, start_cpu = time.perf_counter(), time.thread_time()
        result = function(*arguments)
        spent["model"] += time.perf_counter() - start
        spent["model CPU"] += time.thread_time() - start_cpu
        return result

    return timed


if __name__ == "__main__":
    main()
