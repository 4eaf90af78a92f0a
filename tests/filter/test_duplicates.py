"""Of photos that show the same picture the first (largest) is kept, within one identity."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crawl.output import Output
from crawl.photo import Photo, Rejection
from filter.config import FilterRun
from filter.duplicates import Seen, strictest_licences
from filter.resolution import measure
from filter.scan import Scanned, ScanStage


def picture(seed):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (800, 600), Image.Resampling.BICUBIC
    )


def recompressed(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


COPIES = {
    "same pixels": lambda i: i,
    "recompressed": recompressed,
    "half size": lambda i: i.resize((400, 300)),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda i: i.point(lambda v: min(255, v + 20)),
    "edge cropped": lambda i: i.crop((6, 4, 794, 596)),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_a_duplicate_of_the_first(copy):
    seen = Seen(6)
    assert seen.same_picture("original", measure(picture(1))) is None
    rejection = seen.same_picture("copy", measure(COPIES[copy](picture(1))))
    assert (rejection.stage, rejection.reason, rejection.detail) == ("duplicates", "duplicate", "original")
    assert rejection.value <= 6


def test_other_pictures_are_no_duplicates():
    seen = Seen(6)
    assert [seen.same_picture(str(s), measure(picture(s))) for s in range(30)] == [None] * 30


def test_zero_bits_still_finds_equal_hashes_only():
    seen = Seen(0)
    seen.same_picture("a", measure(picture(1)))
    assert seen.same_picture("b", measure(picture(1))).value == 0


def test_the_same_file_is_found_before_it_is_decoded():
    seen = Seen(6)
    one, copy, other = (Photo(k, "i", f"{k}.jpg", sha256, 1) for k, sha256 in [("a", "x"), ("b", "x"), ("c", "y")])
    assert seen.same_file(one) is None
    assert seen.same_file(copy).detail == "a"
    assert seen.same_file(other) is None


def test_what_is_kept_has_the_strictest_licence_of_all_its_copies():
    photos = [
        ("kept", "CC BY 4.0", None),
        ("same file", "CC BY-SA 4.0", "near"),
        ("near", "CC0", "kept"),
        ("alone", None, None),
        ("other", "CC BY 3.0", None),
        ("its copy", "CC BY 4.0", "other"),
    ]
    kept = {"kept": "CC BY-SA 4.0", "alone": None, "other": "CC BY 3.0"}
    assert strictest_licences(photos) == strictest_licences(photos[::-1]) == kept
    assert strictest_licences([*photos, ("unlicensed", None, "near")])["kept"] is None, "nobody knows the least"


def test_the_scan_hands_the_strictest_licence_on(tmp_path):
    run = FilterRun.model_validate({"output": str(tmp_path), "crawl": {"root": "photos"}})
    stage = ScanStage(run, Output(run.output))
    licences = {"a": "CC BY 4.0", "b": "CC BY-NC 4.0", "c": "CC0", "d": "CC0"}
    photos = [
        Photo(key, "ada" if key < "d" else "bob", key, "same" if key in "ac" else key, 1, licence=licence)
        for key, licence in licences.items()
    ]

    def look(photo, seen):
        assert photo.key != "c", "the same bytes are not looked at again"
        return Rejection("duplicates", "duplicate", 3, 6, "a") if photo.key == "b" else Scanned(photo, None, (), 1)

    entries = {e.key: e for e in stage._scan(photos, lambda name, count: None, look)}
    assert list(entries) == ["a", "b", "c", "d"]
    assert entries["a"].row.photo.licence == "CC BY-NC 4.0"
    assert entries["d"].row.photo.licence == "CC0", "another person's photos are no copies"
    assert [entries[key].rejection.detail for key in "bc"] == ["a", "a"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_a_second_pass_over_what_was_kept_rejects_nothing(seeds):
    measures = [measure(picture(s).resize((80, 60))) for s in seeds]
    first, second = Seen(6), Seen(6)
    kept = [m for n, m in enumerate(measures) if first.same_picture(str(n), m) is None]
    assert all(second.same_picture(str(n), m) is None for n, m in enumerate(kept))


def test_real_photos_that_are_marked_as_copies_are_found_and_no_other(shared):
    rows = list(csv.DictReader((shared / "photos" / "identities.csv").read_text().splitlines()))
    wrong, found, marked = [], 0, 0
    for identity in sorted({r["identity"] for r in rows}):
        mine = [r for r in rows if r["identity"] == identity]
        images = {r["file"]: Image.open(shared / "photos" / "identities" / r["file"]).convert("RGB") for r in mine}
        seen = Seen(6)
        for row in sorted(mine, key=lambda r: -math.prod(images[r["file"]].size)):
            rejection = seen.same_picture(row["file"], measure(images[row["file"]]))
            marked += bool(row["near_dup_of"])
            found += bool(rejection and row["near_dup_of"])
            if rejection and not row["near_dup_of"] and not any(r["near_dup_of"] == row["file"] for r in mine):
                wrong.append((row["file"], rejection.detail, rejection.value))
    print(found, "of", marked, "marked copies found; wrong:", wrong)
    assert wrong == []
    assert found >= marked / 2
