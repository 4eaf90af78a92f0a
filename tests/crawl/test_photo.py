"""Keys are opaque, stable, and safe in file names."""

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from crawl.photo import bucket_of, identity_key, photo_key


@given(st.text())
def test_keys_are_hex_and_never_show_the_name(name):
    key = identity_key(name)
    assert re.fullmatch(r"[0-9a-f]{16}", key)
    assert re.fullmatch(r"[0-9a-f]{32}", photo_key(key, name, ""))


@given(st.text())
def test_one_name_spelt_in_two_ways_is_one_identity(name):
    assert identity_key(unicodedata.normalize("NFD", name)) == identity_key(unicodedata.normalize("NFC", name))


def test_keys_do_not_change_between_versions():
    """Shards, ledgers and takedowns out in the world hold these."""
    assert identity_key("Ada Lovelace") == "4039919447827c9b"
    assert photo_key("0" * 16, "a/b.jpg", "f" * 64) == "d5fc2171ee56a3537da86e2c0f5631a5"


def test_buckets_are_even():
    counts = [0] * 16
    for n in range(3200):
        counts[bucket_of(identity_key(f"person {n}"), 16)] += 1
    assert min(counts) > 150
    assert max(counts) < 250


def test_content_source_and_identity_each_make_another_key():
    keys = {photo_key("i", "s", "h"), photo_key("j", "s", "h"), photo_key("i", "t", "h"), photo_key("i", "s", "g")}
    assert len(keys) == 4
