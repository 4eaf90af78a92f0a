"""Tombstones: what they recognise, what they do not say, and several of them together."""

from __future__ import annotations

import json

import pytest

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Photo, identity_key
from crawl.tombstones import (
    FILE,
    NO_TOMBSTONES,
    Tombstones,
    picture_item,
    read_tombstones,
    spelt,
    united,
    write_tombstones,
)

URL = "https://photos.example.org/ada/1.jpg"
DHASH = 0x0F0F_3C3C_5A5A_1234
ITEMS = [
    ("identity", identity_key("Ada")),
    ("url", spelt("url", URL)),
    ("domain", "gone.example.com"),
    ("sha256", "ab" * 32),
    *picture_item(DHASH),
]


@pytest.fixture
def tombstones():
    return NO_TOMBSTONES.with_items(ITEMS, "5a" * 16, 2)


def test_each_kind_is_recognised_and_nothing_else(tombstones):
    assert tombstones.name("Ada")
    assert not tombstones.name("Bob")
    assert not tombstones.name("")
    assert tombstones.content("ab" * 32)
    assert not tombstones.content("")
    assert not tombstones.content("ac" * 32)


@pytest.mark.parametrize(
    ("url", "known"),
    [
        (URL, True),
        ("HTTPS://PHOTOS.EXAMPLE.ORG:443/ada/./1.jpg?utm_source=x#top", True),
        ("http://photos.example.org/ada/1.jpg", False),
        ("https://photos.example.org/ada/2.jpg", False),
        ("https://gone.example.com/x", True),
        ("http://cdn.Gone.example.com:8080/x", True),
        ("https://notgone.example.com/x", False),
        ("https://example.com/gone.example.com", False),
        ("no url", False),
        ("", False),
        (None, False),
    ],
)
def test_addresses_in_any_spelling_and_domains_with_all_below(tombstones, url, known):
    assert tombstones.address(url) is known
    assert tombstones.address("https://other.example/", url) is known


def test_a_picture_is_known_up_to_two_bits_and_mirrored(tombstones):
    assert tombstones.picture(DHASH)
    assert tombstones.picture(DHASH ^ 0b101)
    assert tombstones.picture(12345, DHASH ^ (1 << 63) - (1 << 64)), "as a signed number, and as the mirrored one"
    assert not tombstones.picture(DHASH ^ 0b111)


@pytest.mark.parametrize("flat", [0, -1, 1, 0b1111111])
def test_a_flat_picture_has_no_tombstone(flat):
    assert picture_item(flat) == []


def test_a_whole_photo_is_asked_at_once(tombstones):
    photo = Photo("k", identity_key("Bob"), "s", "00" * 32, 1)
    assert not tombstones.photo(photo)
    for change in ({"identity": identity_key("Ada")}, {"sha256": "ab" * 32}, {"page_url": URL}, {"final_url": URL}):
        assert tombstones.photo(
            Photo(**{**{"key": "k", "identity": "", "source": "", "sha256": "", "num_bytes": 1}, **change})
        )


def test_the_file_says_nothing_of_what_was_removed(tombstones, tmp_path):
    output = Output(str(tmp_path))
    write_tombstones(output, tombstones)
    text = (tmp_path / FILE).read_text()
    assert not [word for _, word in ITEMS if word in text]
    assert read_tombstones(output) == tombstones
    again = tombstones.with_items(ITEMS, "other salt", 2)
    write_tombstones(output, again)
    assert (tmp_path / FILE).read_text() == text, "items that are there already change nothing"


def test_the_same_items_look_different_in_another_dataset(tombstones):
    other = NO_TOMBSTONES.with_items(ITEMS, "6b" * 16, 2)
    ours, theirs = tombstones.sets[0].hashes, other.sets[0].hashes
    assert ours.keys() == theirs.keys()
    assert not any(ours[kind] & theirs[kind] for kind in ours)


def test_united_tombstones_obey_all(tombstones, tmp_path):
    other = NO_TOMBSTONES.with_items([("identity", identity_key("Bob"))], "6b" * 16, 5)
    both = united([tombstones, other, NO_TOMBSTONES, tombstones])
    assert both.version == 5
    assert both.name("Ada")
    assert both.name("Bob")
    assert len(both.sets) == 2
    output = Output(str(tmp_path))
    write_tombstones(output, both)
    assert read_tombstones(output) == both


def test_none_and_broken(tmp_path):
    output = Output(str(tmp_path))
    assert read_tombstones(output) == Tombstones()
    assert not read_tombstones(output)
    for content in ("{", '{"format": 9}', json.dumps({"format": 1, "version": 2, "sets": [{"salt": 3}]})):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(InputError, match=r"tombstones\.json: broken") as caught:
            read_tombstones(output)
        assert len(str(caught.value).splitlines()) == 1
