"""The outside audit of `make bench` can fail: it finds a crop that is there twice."""

from dataclasses import replace

import pytest

from benchmarks.audit import duplicates
from shards.format.index import write_index


@pytest.mark.slow
@pytest.mark.parametrize("planted", [False, True])
def test_the_audit_finds_a_crop_that_is_there_twice(tmp_path, write_dataset, write, make_bucket, planted):
    output, _ = write_dataset(tmp_path / "dataset", ((3, 2),))
    samples = make_bucket((3, 2))
    if planted:
        samples[4] = replace(samples[4], image_jpeg=samples[0].image_jpeg)
    shards, places = write(output, 0, samples)
    write_index(output, 2, shards, places)
    crops, found = duplicates(output.url)
    assert (crops, found["exact_duplicates"]) == (5, int(planted))
