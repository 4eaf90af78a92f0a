"""Tokens: the estimate, and CLIP's own tokenizer when its files are there."""

import json

import pytest

from caption.tokens import clip_token_counter, estimated_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a red coat", 3),
        ("background", 2),
        ("black-and-white", 5),
        ("it's 1984.", 2 + 4 + 1),
        ("photographs", 3),
        ("naïve", 6),
    ],
)
def test_the_estimate_counts_as_documented(text, tokens):
    assert estimated_tokens(text) == tokens


@pytest.mark.slow
def test_no_tokenizer_at_hand_is_said_by_none(tmp_path):
    assert clip_token_counter(str(tmp_path)) is None
    assert clip_token_counter(str(tmp_path / "nowhere")) is None


@pytest.mark.slow
def test_the_real_tokenizer_counts_merges_and_leaves_its_ends_out(tmp_path):
    letters = list("abcdefghijklmnopqrstuvwxyz")
    pieces = [*letters, *(f"{c}</w>" for c in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = [*pieces, *(f"never-{n}" for n in range(49_408 - len(pieces)))]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    pytest.importorskip("transformers")
    count = clip_token_counter(str(tmp_path))
    assert count is not None
    assert count("red") == 1
    assert count("red coat") == 1 + 4
    assert count("") == 0
