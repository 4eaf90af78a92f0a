"""Qwen2.5-VL for real, but small and with random weights: batching, grids, chat format, generation, truncation."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from caption.captioned import Caption
from caption.chat import Conversation, Reply
from caption.config import CaptionConfig, CaptionRun
from caption.models import model_name, speaker
from caption.prompt import load_prompt
from caption.stage import CaptionStage
from crawl.errors import InputError
from crawl.output import Output
from crawl.tables import Entry, Tables
from filter.portrait import Portrait

pytestmark = pytest.mark.slow


def config(folder, **settings):
    return CaptionConfig.model_validate({"backend": "qwen", "model": str(folder), "max_new_tokens": 16, **settings})


def photo(side, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def qwen(tiny_qwen):
    from caption.backends.qwen import load_qwen

    return load_qwen(config(tiny_qwen))


@pytest.fixture(scope="module")
def talks():
    """Three photos of three sizes, and conversations of three lengths."""
    prompt = load_prompt("thesis")
    return [
        Conversation("1" * 16, photo(112, 1), prompt.system, (prompt.asks[0],), False),
        Conversation("1" * 16, photo(224, 2), prompt.system, (prompt.asks[0], "A woman.", prompt.asks[1]), True),
        Conversation("1" * 16, photo(168, 3), "", ("Describe.",), True),
    ]


def test_a_batch_says_what_its_conversations_say_alone(qwen, talks):
    together = qwen.ask(talks)
    alone = [qwen.ask([talk])[0] for talk in talks]
    assert together == alone
    assert all(isinstance(reply, Reply) and reply.new_tokens > 1 for reply in together)


def test_the_photo_is_seen(qwen, talks):
    """Random weights do not understand, but another photo gives other words; else the test above could not fail."""
    same_words = [Conversation("1" * 16, photo(112, seed), "", ("Describe.",), False) for seed in range(4)]
    assert len({reply.text for reply in qwen.ask(same_words)}) > 1


def test_prompts_are_padded_on_the_left(qwen, talks):
    inputs = qwen.inputs(talks)
    mask = inputs["attention_mask"].numpy()
    assert mask[:, -1].all()
    assert sorted(mask.sum(axis=1)) == sorted(reply.prompt_tokens for reply in qwen.ask(talks))
    assert len(set(mask.sum(axis=1))) == 3
    assert all((np.diff(row) >= 0).all() for row in mask.astype(int))
    decode = qwen._processor.tokenizer.decode
    assert all(decode(row).endswith("<|im_start|>assistant\n") for row in inputs["input_ids"])


def test_every_photo_has_a_grid_and_as_many_tokens(qwen, talks):
    """14 px a patch, four patches a token."""
    inputs = qwen.inputs(talks)
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 8], [1, 16, 16], [1, 12, 12]]
    image_token = qwen._processor.image_token_id
    assert (inputs["input_ids"] == image_token).sum(dim=1).tolist() == [16, 64, 36]
    assert inputs["pixel_values"].shape == (64 + 256 + 144, 14 * 14 * 3 * 2)


def test_a_large_photo_is_scaled_down(tiny_qwen, talks):
    from caption.backends.qwen import load_qwen

    small = load_qwen(config(tiny_qwen, max_pixels=12_544))
    assert small.inputs(talks)["image_grid_thw"].tolist() == [[1, 8, 8]] * 3


def test_the_chat_format_is_the_models(qwen, talks):
    text = qwen._processor.tokenizer.decode(qwen.inputs([talks[1]])["input_ids"][0])
    prompt = load_prompt("thesis")
    pads = "<|image_pad|>" * 64
    assert text == (
        f"<|im_start|>system\n{prompt.system}<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{prompt.asks[0]}<|im_end|>\n"
        f"<|im_start|>assistant\nA woman.<|im_end|>\n"
        f"<|im_start|>user\n{prompt.asks[1]}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_answer_ends_at_its_end_token_or_at_the_limit(qwen, talks, reciting):
    folder, text = reciting
    from caption.backends.qwen import load_qwen

    whole = load_qwen(config(folder, max_new_tokens=100)).ask(talks)
    assert {(reply.text, reply.end) for reply in whole} == {(text, "stop")}
    tokens = whole[0].new_tokens
    (cut,) = load_qwen(config(folder, max_new_tokens=tokens - 1)).ask(talks[:1])
    assert (cut.text, cut.end, cut.new_tokens) == (text, "length", tokens - 1)
    (cut,) = load_qwen(config(folder, max_new_tokens=16)).ask(talks[:1])
    assert (cut.end, cut.new_tokens) == ("length", 16)
    assert text.startswith(cut.text)


def test_likeliest_words_or_drawn_ones(tiny_qwen, talks):
    import torch

    from caption.backends.qwen import load_qwen

    drawn = load_qwen(config(tiny_qwen, temperature=1.5))
    torch.manual_seed(0)
    assert len({drawn.ask(talks[:1])[0].text for _ in range(4)}) > 1
    greedy = load_qwen(config(tiny_qwen))
    assert len({greedy.ask(talks[:1])[0].text for _ in range(3)}) == 1
    assert greedy._model.dtype == torch.float32


@pytest.fixture(scope="module")
def reciting(tmp_path_factory, good_answer):
    from benchmarks.random_qwen import save_reciting_qwen

    text = json.dumps(good_answer)
    return save_reciting_qwen(tmp_path_factory.mktemp("models") / "reciting-qwen", text), text


def test_the_stage_captions_with_a_model_named_in_the_run_file(tmp_path, reciting, portrait_of, draw, good_answer):
    output, folder = Output(str(tmp_path / "out")), shutil.copytree(reciting[0], tmp_path / "my-qwen")
    portraits = [portrait_of(draw(clothes=(20 * n, 40, 90)), number=n) for n in range(5)]
    Tables(output).write("crop", 0, Portrait, [Entry(p.key, p) for p in portraits], "f")
    settings = {"backend": "qwen", "model": str(folder), "revision": "v1", "batch_size": 2}
    run = CaptionRun.model_validate({"output": output.url, "crawl": {"root": "."}, "caption": settings})
    CaptionStage(run, output).run(0, "f", lambda stage, photos: None)
    table = tmp_path / "out" / "tables" / "caption" / "00000.parquet"
    rows, content = [entry.row for entry in Tables(output).read("caption", 0, Caption)], table.read_bytes()
    assert [row.body for row in rows] == [good_answer["body"]] * 5
    assert rows[0].made_by == f"qwen:my-qwen@v1 {load_prompt('thesis').version}"
    table.unlink()
    shutil.rmtree(folder)  # what is known needs no model
    CaptionStage(run, output).run(0, "f", lambda stage, photos: None)
    assert table.read_bytes() == content


def test_other_weights_in_a_folder_are_another_model(tmp_path, tiny_qwen):
    other = shutil.copytree(tiny_qwen, tmp_path / "tiny-qwen")
    assert model_name(config(other)) == model_name(config(tiny_qwen))
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(bytes(content))
    assert model_name(config(other)) != model_name(config(tiny_qwen))
    assert str(tmp_path) not in speaker(config(other)).name


def test_no_such_model_is_one_line(tmp_path):
    from caption.backends.qwen import load_qwen

    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"caption\.model: .*empty: cannot be loaded") as error:
        load_qwen(config(tmp_path / "empty"))
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_named_before_anything_loads(tmp_path):
    with pytest.raises(InputError, match=r"caption\.model: .*/gone: no such folder"):
        model_name(config(tmp_path / "gone"))
