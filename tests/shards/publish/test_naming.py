"""A name is found however an address spells it, and not in words that only resemble it."""

import pytest

from shards.publish.naming import holds_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ada Lovelace", "https://example.org/photos/Ada_Lovelace/1.jpg"),
        ("Ada Lovelace", "https://example.org/lovelace%2C_ada-1.jpg"),
        ("Ada Lovelace", "AdaLovelace2.jpg"),
        ("Beyoncé", "https://example.org/beyonce.jpg"),
        ("Zoë Kravitz", "File:Zoe%CC%88 Kravitz 2019.jpg"),
        ("group-4", "http://127.0.0.1/full/group-4/view-5.jpg"),
    ],
)
def test_a_name_is_found(name, text):
    assert holds_name(name, text)


def test_in_a_sentence_a_name_stands_in_order():
    assert holds_name("Rose Brown", "a photo of Rose Brown, smiling", in_order=True)
    assert not holds_name("Rose Brown", "a person in a brown coat with a rose", in_order=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ada Lovelace", "https://example.org/ada/1.jpg"),
        ("Ada", "https://example.org/canada.jpg"),
        ("Ng Li", "https://example.org/feeling.jpg"),
        ("", "anything"),
        ("…", "anything"),
    ],
)
def test_no_name_is_found(name, text):
    assert not holds_name(name, text)
