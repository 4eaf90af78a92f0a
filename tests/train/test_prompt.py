"""Prompts as people type them."""

import pytest

from crawl.errors import InputError
from train.prompt import parse_prompt


@pytest.mark.parametrize(
    ("prompt", "class_word", "text", "behind"),
    [
        ("a photo of a woman in red", None, "a photo of a woman in red", "a photo of a woman"),
        ("a woman img in red", None, "a woman in red", "a woman"),
        ("an astronaut img, a man beside", None, "an astronaut, a man beside", "an astronaut"),
        ("Man and woman", None, "Man and woman", "Man"),
        ("the manor of a lady", None, "the manor of a lady", "the manor of a lady"),
        ("a man and a dog", "dog", "a man and a dog", "a man and a dog"),
    ],
)
def test_where_the_class_word_ends(prompt, class_word, text, behind):
    assert parse_prompt(prompt, class_word) == (text, len(behind))


def test_nobody_is_no_fault_of_the_prompt():
    assert parse_prompt("portrait, colour, cinematic") == ("portrait, colour, cinematic", -1)


@pytest.mark.parametrize(
    ("prompt", "class_word", "message"),
    [
        ("img of a man", None, "img stands once, right behind the class word"),
        ("a man img, img", None, "img stands once, right behind the class word"),
        ("a dog", "cat", "'cat' is not in it"),
    ],
)
def test_what_is_wrong_is_one_line(prompt, class_word, message):
    with pytest.raises(InputError, match=f"^prompt: {prompt!r}: .*{message}"):
        parse_prompt(prompt, class_word)
