"""Trigger expansion: for any caption the end token and every class token survive; the published class loses them."""

import pytest
import torch
from transformers import CLIPTokenizer

from crawl.errors import InputError
from shards.encoders import tiny
from shards.encoders.text import TextEncoders
from train.adapters.trigger import ROOM, expand, fit
from train.prompt import parse_prompt


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def other():
    """As SDXL's second: the same words, padded by "!"."""
    tokens = tiny.tokenizer()
    tokens.pad_token = "!"
    return tokens


@pytest.fixture(scope="module")
def encoders(tokenizer, other):
    return TextEncoders([tokenizer, other], tiny.text_models(0, tokenizer), penultimate=True)


def caption(before, after):
    """So many words, the class word, so many words, each a token; and the offset behind the class word."""
    head = " ".join(["red"] * before + ["man"])
    return head + " blue" * after, len(head)


def published(ids, at, count, pad):
    """What the published class does with a prompt's ids (begin … end): repeats the class token, cuts the end off."""
    ids = [*ids[:at], *[ids[at]] * count, *ids[at + 1 :]][:77]
    mask = [at <= i < at + count for i in range(len(ids))]
    return ids + [pad] * (77 - len(ids)), mask


def test_the_class_token_stands_once_for_each_identity_token(encoders, tokenizer):
    expanded = expand(encoders, ["a red man in blue"], [9], [3])
    a, red, man, inside, blue = tokenizer("a red man in blue", add_special_tokens=False).input_ids
    expected = [tokenizer.bos_token_id, a, red, man, man, man, inside, blue, tokenizer.eos_token_id]
    assert expanded.ids[0][0, :9].tolist() == expected
    assert expanded.mask[0].nonzero()[:, 0].tolist() == [3, 4, 5]


@pytest.mark.parametrize("length", [0, 5, 74, 75, 76, 120])
def test_without_identity_it_is_the_plain_prompt(encoders, length):
    text, at = caption(length // 2, length - length // 2)
    for position in (at, -1):
        expanded = expand(encoders, [text], [position], [0])
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(expanded.ids, encoders.ids([text]), strict=True))
        assert not expanded.mask.any()


def test_for_every_length_place_and_number_all_class_tokens_and_the_end_survive():
    for before in (*range(0, 6), *range(60, 90, 3)):
        for after in (*range(0, 6), *range(60, 90, 3)):
            for count in (1, 2, 8, 32, ROOM):
                tokens, start = fit([*range(1000, 1000 + before), 7], range(2000, 2000 + after), count)
                assert len(tokens) == min(ROOM, before + count + after)
                assert tokens[start : start + count] == [7] * count
                head, tail = tokens[:start], tokens[start + count :]
                assert head == list(range(1000 + before - len(head), 1000 + before))
                assert tail == list(range(2000, 2000 + len(tail)))
                assert len(head) == min(before, ROOM - count)  # the head gives way only when no tail is left to give


def test_the_end_token_survives_full_captions_and_the_published_class_loses_it(encoders, tokenizer):
    end, text, at = tokenizer.eos_token_id, *caption(10, 64)
    ids = tokenizer(text).input_ids
    assert len(ids) == 77
    lost = []
    for count in (1, 2, 3, 8):
        faulty, _ = published(ids, 11, count, tokenizer.pad_token_id)
        lost.append(end not in faulty)
        for row in expand(encoders, [text], [at], [count]).ids:
            assert row[0].tolist().index(end) == 76, f"{count} references: end token at {row[0].tolist().index(end)}"
    assert lost == [False, True, True, True]


def test_a_late_class_word_keeps_its_references_and_the_published_class_loses_them(encoders, tokenizer):
    text, at = caption(71, 0)
    ids = tokenizer(text).input_ids
    _, mask = published(ids, 72, 8, tokenizer.pad_token_id)
    assert sum(mask) == 5
    expanded = expand(encoders, [text], [at], [8])
    assert expanded.mask.sum() == 8
    assert expanded.ids[0][expanded.mask].unique().tolist() == tokenizer("man", add_special_tokens=False).input_ids


def test_captions_of_a_batch_do_not_touch_each_other(encoders):
    texts, places = zip(caption(2, 3), caption(71, 4), caption(0, 90), strict=True)
    counts = [1, 8, 4]
    together = expand(encoders, texts, places, counts)
    assert together.mask.sum(1).tolist() == counts
    for i in range(3):
        one = expand(encoders, texts[i : i + 1], places[i : i + 1], counts[i : i + 1])
        assert torch.equal(one.mask[0], together.mask[i])
        assert all(torch.equal(a[0], b[i]) for a, b in zip(one.ids, together.ids, strict=True))


def test_each_encoder_is_padded_as_its_own_tokenizer_does(encoders, tokenizer, other):
    first, second = expand(encoders, ["a man in red"], [5], [2]).ids
    assert first[0, 10:].unique().tolist() == [tokenizer.pad_token_id]
    assert second[0, 10:].unique().tolist() == [other.convert_tokens_to_ids("!")]
    assert torch.equal(first[0, :7], second[0, :7])


def test_of_a_class_word_of_several_tokens_the_last_is_repeated(encoders, tokenizer):
    pieces = tokenizer("dentist", add_special_tokens=False).input_ids
    assert len(pieces) > 1
    expanded = expand(encoders, ["a dentist smiles"], [9], [3])
    row = expanded.ids[0][0].tolist()
    assert row[2 : 2 + len(pieces) + 2] == [*pieces, pieces[-1], pieces[-1]]
    assert expanded.mask[0].nonzero()[:, 0].tolist() == [len(pieces) + 1 + i for i in range(3)]


def test_tokenizers_that_disagree_are_refused(tokenizer):
    letters = CLIPTokenizer(
        vocab={token: i for i, token in enumerate([*"womanred", "n</w>", "d</w>", "<|startoftext|>", "<|endoftext|>"])},
        merges=[],
    )
    encoders = TextEncoders([tokenizer, letters], tiny.text_models(0, tokenizer), penultimate=True)
    with pytest.raises(InputError, match=r"base\.weights: its tokenizers split a prompt differently"):
        expand(encoders, ["red woman"], [9], [1])


def test_of_a_typed_prompt_the_class_word_is_expanded_and_the_trigger_gone(encoders, tokenizer):
    text, position = parse_prompt("a young man img in red")
    plain = tokenizer("a young man in red", add_special_tokens=False).input_ids
    row = expand(encoders, [text], [position], [2]).ids[0][0].tolist()
    assert row[1:7] == [*plain[:3], plain[2], *plain[3:]]


@pytest.mark.parametrize("prompt", ["a woman img and a man img", "img a woman", "a woman, img"])
def test_a_typed_prompt_has_one_trigger_behind_a_word(prompt):
    with pytest.raises(InputError, match="img stands once, right behind the class word"):
        parse_prompt(prompt)
