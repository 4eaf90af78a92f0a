"""What models wrap around JSON is taken off; what is no answer is named."""

import json

import jsonschema
import pytest

from caption.answer import SCHEMA, read_answer
from caption.captioned import Caption


def caption_in(text):
    answer = read_answer(text, "test")
    assert isinstance(answer, Caption), answer
    return answer


def reasons_in(text):
    answer = read_answer(text, "test")
    assert isinstance(answer, list)
    return [fault.reason for fault in answer]


def test_a_plain_answer(good_answer):
    caption = caption_in(json.dumps(good_answer))
    assert (caption.general, caption.background, caption.body) == tuple(
        good_answer[p] for p in ("general", "background", "body")
    )
    assert (caption.class_word, caption.made_by) == ("woman", "test")
    assert caption.general[: caption.trigger_position].endswith("a woman")


@pytest.mark.parametrize(
    "around",
    [
        "```json\n{}\n```",
        "```\n{}\n```",
        "Sure! Here is the JSON:\n\n{}\n\nLet me know if I can help.",
        "<think>The user wants {{braces}} and {{\"general\": 1}}.</think>\n{}",
        '{{"general": "a draft of a woman"}} No, better:\n{}',
        "{} {{\"note\": \"done\"}}",
        '{{"caption": {}}}',
        "[{}]",
        "\ufeff{}",
    ],
)  # fmt: skip
def test_what_is_around_it_is_taken_off(around, good_answer):
    assert caption_in(around.format(json.dumps(good_answer))) == caption_in(json.dumps(good_answer))


def test_white_space_is_tidied_and_raw_line_breaks_are_read(good_answer):
    text = json.dumps({**good_answer, "body": "  Slim,@in a   coat. "}).replace("@", "\n\t")
    assert caption_in(text).body == "Slim, in a coat."


@pytest.mark.parametrize("nothing", ["", "None", "none.", "N/A", " null "])
def test_an_empty_background_may_be_said_in_words(nothing, good_answer):
    assert caption_in(json.dumps({**good_answer, "background": nothing})).background == ""


def test_the_class_word_is_found_whatever_its_case(good_answer):
    caption = caption_in(json.dumps({**good_answer, "general": "Woman in a park.", "class_word": "Woman"}))
    assert (caption.class_word, caption.trigger_position) == ("woman", 5)


def test_a_class_word_that_is_not_there_is_left_to_the_check(good_answer):
    assert caption_in(json.dumps({**good_answer, "class_word": "man"})).trigger_position == 0


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("", ["not_json"]),
        ("I can't help with that.", ["not_json"]),
        ('{"general": "A photo of a woman', ["not_json"]),
        ("{'general': 'single quotes'}", ["not_json"]),
        ('{"description": "a woman"}', ["not_json"]),
        ('["general"]', ["not_json"]),
        ('{"general": "a woman"}', ["missing"] * 3),
        ('{"general": "a", "background": null, "body": ["b"], "class_word": 3}', ["not_text"] * 3),
        ("{" * 100_000, ["not_json"]),
        ('{"a":' * 100_000, ["not_json"]),
    ],
)
def test_what_is_no_answer_is_named(text, reasons):
    assert reasons_in(text) == reasons


def test_half_a_surrogate_pair_can_be_stored(good_answer):
    text = json.dumps({**good_answer, "body": "In a coat \ud83d."})
    assert caption_in(text).body.encode("utf-8")


def test_the_schema_takes_good_answers_and_no_others(good_answer):
    jsonschema.validate(good_answer, SCHEMA)
    for wrong in ({**good_answer, "class_word": "dog"}, {**good_answer, "more": "x"}, {**good_answer, "body": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)
