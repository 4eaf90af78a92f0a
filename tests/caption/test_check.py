"""Every rule of a caption, broken one at a time."""

import dataclasses

import pytest

from caption import check
from caption.captioned import Caption

GOOD = Caption(
    general="A bright photo of a woman in a garden, holding a book.",
    background="A garden with red roses and a white bench.",
    body="Sitting upright in a long blue dress, with crossed legs.",
    class_word="woman",
    trigger_position=25,
    made_by="test",
)


def faults(*arguments, **options):
    return [fault.text for fault in check.faults(*arguments, **options)]


def changed(**parts):
    return dataclasses.replace(GOOD, **parts)


def test_a_good_caption_has_no_faults():
    assert faults(GOOD, ["Rose Leslie"]) == []


def test_an_empty_background_is_an_answer():
    assert faults(changed(background="")) == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ({"body": ""}, "body is empty"),
        ({"general": " "}, "general is empty"),
        ({"background": "  "}, "background is empty"),
        ({"body": "Standing.\n\nIn a coat."}, "body has line breaks"),
        ({"body": "Standing in a coat.\x00"}, "odd characters"),
        ({"body": "穿着蓝色的裙子"}, "body is not English"),
        ({"background": "Ein Garten mit Rosen und einer Bank."}, "background is not English"),
        ({"background": "un jardin avec une table"}, "background is not English"),
        ({"body": "123"}, "body is not English"),
        ({"class_word": "garden"}, "class_word is not one of man, woman, person"),
        ({"class_word": "person"}, "general holds the word person 0 times"),
        ({"general": "A photo of a woman beside a Woman.", "trigger_position": 18}, "2 times"),
        ({"general": "A photo of a womanly coat."}, "0 times"),
        ({"trigger_position": 24}, "trigger_position is 24, the class word ends at 25"),
        ({"class_word": "two words"}, "class_word is not one of man, woman, person"),
        ({"background": "A smiling crowd."}, "background describes a face: smiling"),
        ({"background": "A blue-eyed stranger with a Beard."}, "background describes a face: beard, eyed"),
        ({"body": "a coat and " * 40 + "a hat"}, "body is too long"),
    ],
)
def test_each_fault_is_found(broken, fault):
    found = faults(changed(**broken))
    assert any(fault in line for line in found), found


@pytest.mark.parametrize(
    ("text", "name", "named"),
    [
        ("Obama stands in a suit.", "Barack Obama", True),
        ("the suit of obama", "Barack Obama", True),
        ("Obama's dark suit", "Barack Obama", True),
        ("a suit, BARACK OBAMA", "Barack Obama", True),
        ("a coat like Beyoncé wears", "Beyonce", True),
        ("a coat like Beyonce wears", "Beyonce\u0301", True),
        ("a dress with a red rose", "Rose Leslie", False),
        ("Rose petals on a dress", "Rose Leslie", False),
        ("a dress worn by Rose", "Rose Leslie", True),
        ("a coat. White gloves.", "Betty White", False),
        ("a coat of betty white", "Betty White", True),
        ("a van in the street", "Ludwig van Beethoven", False),
        ("a beautiful robe", "Kit", False),
        ("a white kitchen apron", "Kit Harington", False),
        ("a coat, with George W Bush", "George_W_Bush", True),
        ("wearing a wide coat", "George W Bush", False),
    ],
)
def test_names_are_found_and_words_are_left_alone(text, name, named):
    found = faults(changed(body=text), [name])
    assert found == (["body names the person"] if named else [])


def test_a_fault_does_not_repeat_the_name():
    assert not any("Obama" in line for line in faults(changed(body="Obama stands"), ["Barack Obama"]))


def test_the_trigger_and_the_ends_are_part_of_the_length():
    def one_a_word(text):
        return len(text.split())

    general = "a photo of a woman" + " so" * 69
    caption = changed(general=general, trigger_position=18)
    assert faults(caption, count_tokens=one_a_word) == []
    longer = changed(general=general + " so", trigger_position=18)
    assert faults(longer, count_tokens=one_a_word) == ["general is too long: 78 tokens, at most 77"]
    assert faults(changed(body="so " * 74 + "so"), count_tokens=one_a_word) == []
    assert faults(changed(body="so " * 75 + "so"), count_tokens=one_a_word) == [
        "body is too long: 78 tokens, at most 77"
    ]
