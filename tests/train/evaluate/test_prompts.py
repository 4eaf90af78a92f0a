"""Whatever a method listens to, it is told everything; the class word is found in every form."""

import re

import pytest

from train.evaluate.prompts import THESIS, given

EVERY = [(), ("background",), ("body",), ("background", "body")]


def words(*texts):
    return sorted(set(re.findall(r"\w+", " ".join(texts).lower())) - {"and"})


@pytest.mark.parametrize("listens_to", EVERY)
@pytest.mark.parametrize("prompt", THESIS, ids=lambda prompt: prompt.name)
def test_no_word_is_lost_and_the_class_word_is_found(prompt, listens_to):
    told = given(prompt, {"general", *listens_to})
    assert words(told.general, told.background, told.body) == words(prompt.whole)
    assert told.general[: told.trigger_position].endswith(prompt.class_word)
    assert bool(told.background) == ("background" in listens_to)
    assert bool(told.body) == ("body" in listens_to)


def test_a_method_of_one_prompt_gets_the_whole_as_it_is():
    for prompt in THESIS:
        assert given(prompt, ("general",)).general == prompt.whole


def test_as_typed_is_the_form_of_the_thesis():
    told = given(THESIS[0], ("general", "background"))
    general, background = told.as_typed.split("\n\n")
    assert general == "Photo of a person img looking into the camera, wearing a black cloak and red hat"
    assert background == THESIS[0].background
