"""Many dialogues at a time: batches stay full, order is kept, a fault costs one photo."""

import itertools
import json
import threading
import time

import pytest

from caption.asking import AskingCaptioner
from caption.captioned import Caption
from caption.captioner import Sitter
from caption.chat import NoReply, Reply
from caption.dialogue import Rules
from caption.prompt import load_prompt
from caption.replies import KnownFirst, NoReplies, Speaker
from caption.tokens import estimated_tokens
from crawl.errors import InputError, Paused
from crawl.photo import Rejection


class Scripted:
    """Answers by (number of the photo, turn); writes down the batches."""

    def __init__(self, answer):
        self.answer, self.batches = answer, []

    def ask(self, conversations):
        asked = [(int(c.image_jpeg), (len(c.turns) + 1) // 2) for c in conversations]
        self.batches.append(asked)
        return [self.answer(*each) for each in asked]


def asking(chat):
    return KnownFirst(lambda: chat, Speaker("test", "{}"), NoReplies(), time.monotonic)


@pytest.fixture
def sitters(portrait_of):
    return [Sitter(portrait_of(b"%d" % n, number=n)) for n in range(10)]


@pytest.fixture
def captions(sitters):
    def run(answer, prompt="single", batch_size=4, max_attempts=3):
        chat = Scripted(answer)
        rules = Rules(load_prompt(prompt), "test", max_attempts, estimated_tokens)
        return list(AskingCaptioner(asking(chat), rules, batch_size).captions(sitters)), chat.batches

    return run


def test_one_answer_a_portrait_in_order(captions, sitters, good_answer):
    answers, batches = captions(lambda n, turn: Reply(json.dumps(good_answer), 1, 1))
    assert [a.key for a in answers] == [s.portrait.key for s in sitters]
    assert all(isinstance(a.outcome, Caption) for a in answers)
    assert [len(b) for b in batches] == [4, 4, 2]


def test_repetitions_share_a_batch_with_new_photos(captions, good_answer):
    """Photos 1 and 2 need three turns: no batch is smaller than what is left to ask."""

    def answer(n, turn):
        return Reply("?" if n in (1, 2) and turn < 3 else json.dumps(good_answer), 1, 1)

    answers, batches = captions(answer)
    assert [isinstance(a.outcome, Caption) for a in answers] == [True] * 10
    assert [len(b) for b in batches] == [4, 4, 4, 2]
    assert batches[2] == [(1, 2), (2, 2), (8, 1), (9, 1)]
    assert [a.effort.replies for a in answers] == [1, 3, 3, 1, 1, 1, 1, 1, 1, 1]


def test_every_photo_goes_through_both_turns(captions, good_answer):
    _, batches = captions(lambda n, turn: Reply(json.dumps(good_answer), 1, 1), "thesis")
    assert sorted(itertools.chain(*batches)) == [(n, turn) for n in range(10) for turn in (1, 2)]


def test_answers_do_not_depend_on_the_batch_size(captions, good_answer):
    def answer(n, turn):
        return Reply("?" if (n * 7 + turn) % 3 == 0 else json.dumps(good_answer), n, turn)

    runs = [captions(answer, batch_size=size)[0] for size in (1, 3, 100)]
    assert runs[0] == runs[1] == runs[2]
    assert {type(a.outcome) for a in runs[0]} == {Caption}


def test_photos_are_taken_only_as_there_is_room(sitters, good_answer):
    taken = []

    def coming():
        for sitter in sitters:
            taken.append(sitter)
            yield sitter

    rules = Rules(load_prompt("single"), "test", 3, estimated_tokens)
    chat = Scripted(lambda n, turn: Reply(json.dumps(good_answer), 1, 1))
    stream = AskingCaptioner(asking(chat), rules, 2).captions(coming())
    next(stream)
    assert len(taken) == 4  # two batches
    stream.close()


def test_a_photo_that_breaks_its_batch_costs_one_row(captions, good_answer):
    def answer(n, turn):
        if n == 5:
            raise RuntimeError("out of memory")
        return Reply(json.dumps(good_answer), 1, 1)

    answers, _ = captions(answer)
    assert answers[5].outcome == Rejection("caption", "error", detail="RuntimeError: out of memory")
    assert sum(isinstance(a.outcome, Caption) for a in answers) == 9


def test_no_reply_costs_one_row(captions, good_answer):
    answers, _ = captions(lambda n, turn: NoReply("http_500") if n == 3 else Reply(json.dumps(good_answer), 1, 1))
    assert [a.outcome for a in answers if isinstance(a.outcome, Rejection)] == [Rejection("caption", "http_500")]


def test_what_is_no_photos_fault_ends_the_run(captions):
    def answer(n, turn):
        raise InputError("the key is not accepted")

    with pytest.raises(InputError, match="the key is not accepted"):
        captions(answer)


def test_the_model_goes_on_while_replies_are_dealt_with(sitters, good_answer):
    """It is asked the second batch although nobody has taken the first one's answers yet."""
    asked = threading.Event()

    def answer(n, turn):
        if n == 4:
            asked.set()
        return Reply(json.dumps(good_answer), 1, 1)

    rules = Rules(load_prompt("single"), "test", 3, estimated_tokens)
    stream = AskingCaptioner(asking(Scripted(answer)), rules, 4).captions(sitters)
    next(stream)
    assert asked.wait(5.0)
    assert len(list(stream)) == 9


def test_what_is_in_the_models_hands_when_the_run_ends_is_kept(sitters, good_answer):
    replies = NoReplies()

    def answer(n, turn):
        return NoReply("budget", "spent", stops=True) if n == 3 else Reply(json.dumps(good_answer), 1, 1)

    rules = Rules(load_prompt("single"), "test", 3, estimated_tokens)
    chat = KnownFirst(lambda: Scripted(answer), Speaker("test", "{}"), replies, time.monotonic)
    with pytest.raises(Paused, match=r"^spent$"):
        list(AskingCaptioner(chat, rules, 4).captions(sitters))
    assert len(replies._known) == 7
