"""A dialogue's turns, its repetitions with the errors told, and what it remembers of both."""

import json

import pytest

from caption.captioned import Caption
from caption.chat import NoReply, Reply, messages
from caption.dialogue import Dialogue, Rules
from caption.prompt import load_prompt
from caption.tokens import estimated_tokens
from crawl.photo import Rejection


@pytest.fixture
def dialogue(portrait_of, draw):
    def start(prompt="single", name=None, max_attempts=3):
        rules = Rules(load_prompt(prompt), "test", max_attempts, estimated_tokens)
        return Dialogue(portrait_of(draw()), name, rules)

    return start


def said(answer, **changes):
    return Reply(json.dumps({**answer, **changes}), 100, 20)


def test_the_thesis_way_is_two_turns_of_which_the_second_is_structured(dialogue, good_answer):
    talk, prompt = dialogue("thesis"), load_prompt("thesis")
    assert (talk.conversation.turns, talk.conversation.structured) == ((prompt.asks[0],), False)
    talk.hear(Reply("A woman stands in a park.", 300, 10))
    assert talk.conversation.turns == (prompt.asks[0], "A woman stands in a park.", prompt.asks[1])
    assert talk.conversation.structured
    talk.hear(said(good_answer))
    assert isinstance(talk.outcome, Caption)
    effort = talk.effort()
    assert (effort.replies, effort.answers, effort.faults, effort.leaks) == (2, 1, (), ())
    assert (effort.prompt_tokens, effort.new_tokens) == (400, 30)
    assert effort.general_tokens == estimated_tokens(good_answer["general"]) + 3
    assert effort.body_tokens == estimated_tokens(good_answer["body"]) + 2


def test_one_turn_is_structured_at_once(dialogue, good_answer):
    talk = dialogue("single")
    assert talk.conversation.structured
    talk.hear(said(good_answer))
    assert isinstance(talk.outcome, Caption)


def test_an_invalid_answer_is_asked_for_again_with_its_errors(dialogue, good_answer):
    talk = dialogue()
    talk.hear(said(good_answer, body="", background="A smiling crowd."))
    *_, answer, again = talk.conversation.turns
    assert json.loads(answer)["body"] == ""
    assert "- body is empty\n- background describes a face: smiling" in again
    assert talk.conversation.structured
    talk.hear(said(good_answer))
    assert isinstance(talk.outcome, Caption)
    assert talk.effort().faults == ("empty", "face_in_background")
    assert talk.effort().leaks == ("face_in_background",)


def test_after_the_last_attempt_there_is_a_rejection_with_the_errors(dialogue, good_answer):
    talk = dialogue(max_attempts=2)
    talk.hear(Reply("no JSON here", 100, 5))
    assert talk.outcome is None
    talk.hear(said(good_answer, class_word="man"))
    expected = "general holds the word man 0 times, not once"
    assert talk.outcome == Rejection("caption", "invalid_caption", 1.0, 0.0, expected)
    assert (talk.effort().answers, talk.effort().general_tokens) == (2, 0)


def test_an_answer_that_was_cut_off_is_told_so(dialogue):
    talk = dialogue()
    talk.hear(Reply('{"general": "A photo of', 100, 400, "length"))
    assert "cut off" in talk.conversation.turns[-1]
    assert talk.effort().faults == ("cut_off",)


def test_a_name_is_sent_back_but_not_repeated(dialogue, good_answer):
    talk = dialogue(name="Ada Lovelace", max_attempts=1)
    talk.hear(said(good_answer, body="Lovelace in a red coat."))
    assert talk.outcome.detail == "body names the person"
    assert talk.effort().leaks == ("names_person",)


def test_a_refusal_is_not_asked_again(dialogue):
    talk = dialogue()
    talk.hear(Reply("I will not describe Ada Lovelace.", 100, 8, "refused"))
    assert talk.outcome == Rejection("caption", "refused")


def test_no_reply_is_a_rejection_whose_detail_holds_no_name(dialogue):
    for detail, kept in (("model is overloaded", "model is overloaded"), ("Lovelace is a secret", None)):
        talk = dialogue(name="Ada Lovelace")
        talk.hear(NoReply("http_500", detail))
        assert talk.outcome == Rejection("caption", "http_500", detail=kept)


def test_a_long_wrong_answer_does_not_fill_the_next_question(dialogue):
    talk = dialogue()
    talk.hear(Reply("x" * 100_000, 100, 400))
    assert sum(map(len, talk.conversation.turns)) < 10_000


def test_messages_are_roles_by_turns_with_the_photo_in_the_first(dialogue, good_answer):
    talk = dialogue("thesis")
    talk.hear(Reply("A woman.", 1, 1))
    talk.hear(Reply("no", 1, 1))
    told = messages(talk.conversation, {"type": "image", "image": "PHOTO"})
    assert [m["role"] for m in told] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert told[1]["content"][0] == {"type": "image", "image": "PHOTO"}
    assert [isinstance(m["content"], str) for m in told] == [True, False, True, True, True, True]
