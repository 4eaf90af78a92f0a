"""The tiny tokenizer: a real byte-pair tokenizer that knows every listed word."""

from shards.encoders import tiny


def test_every_listed_word_is_one_token_and_others_are_spelled():
    tokenizer = tiny.tokenizer()
    words = tiny._WORDS.split()
    split = {word: len(ids) for word in words if len(ids := tokenizer(word, add_special_tokens=False).input_ids) != 1}
    assert split == {}
    assert len({tokenizer(word, add_special_tokens=False).input_ids[0] for word in words}) == len(set(words))
    assert tokenizer.decode(tokenizer("dentist", add_special_tokens=False).input_ids) == "dentist"
    assert len(tokenizer("dentist", add_special_tokens=False).input_ids) > 1
