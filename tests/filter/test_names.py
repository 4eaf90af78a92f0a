"""The cross-name check: two names that show one person."""

import os
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filter.names import Finding, least_cosine_of_centres, same_person


@dataclass(frozen=True)
class Named:
    identity: str
    kept: int
    centre: np.ndarray | None


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def at(degrees):
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], dtype=np.float32)


def set_aside(findings):
    return {f.identity: f.same_as for f in findings}


MANY = 10**6
LIMIT = 0.9
"""25.8 degrees."""


def test_the_smaller_of_two_names_is_set_aside():
    found = same_person([Named("a", MANY, at(0)), Named("b", 2 * MANY, at(20)), Named("c", MANY, at(90))], LIMIT)
    assert found == [Finding("a", "b", pytest.approx(np.cos(np.radians(20)), abs=1e-5))]


def test_of_equals_the_higher_key_is_set_aside():
    assert set_aside(same_person([Named("b", MANY, at(0)), Named("a", MANY, at(1))], LIMIT)) == {"b": "a"}


def test_below_the_limit_nobody_is():
    assert same_person([Named("a", MANY, at(0)), Named("b", MANY, at(26))], LIMIT) == []


def test_what_is_set_aside_sets_nobody_aside():
    """A chain a–b–c whose ends are apart: b goes because of a, and c stays."""
    chain = [Named("a", MANY + 2, at(0)), Named("b", MANY + 1, at(20)), Named("c", MANY, at(40))]
    assert set_aside(same_person(chain, LIMIT)) == {"b": "a"}


def test_the_nearest_of_those_that_stay_is_named():
    three = [Named("a", MANY + 2, at(0)), Named("b", MANY + 1, at(40)), Named("c", MANY, at(22))]
    assert set_aside(same_person(three, LIMIT)) == {"c": "b"}


def test_identities_without_a_centre_take_no_part():
    assert same_person([Named("a", 0, None), Named("b", MANY, at(0))], LIMIT) == []
    assert same_person([], LIMIT) == []


def test_centres_of_few_photos_are_asked_for_less():
    assert least_cosine_of_centres(0.9, 2, 2) == pytest.approx(0.85)
    assert least_cosine_of_centres(0.9, MANY, MANY) == pytest.approx(0.9, abs=1e-6)
    assert set_aside(same_person([Named("a", 2, at(0)), Named("b", 2, at(31))], LIMIT)) == {"b": "a"}
    assert same_person([Named("a", 2, at(0)), Named("b", 20, at(31))], LIMIT) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.floats(0, 360)), max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_those_that_stay_are_apart(rows, random):
    named = [Named(f"{i:02d}", kept, at(degrees)) for i, (kept, degrees) in enumerate(rows)]
    found = same_person(named, LIMIT)
    assert found == same_person(random.sample(named, len(named)), LIMIT)
    gone = set_aside(found)
    assert not set(gone) & set(gone.values())
    stay = [n for n in named if n.identity not in gone]
    for i, one in enumerate(stay):
        for other in stay[i + 1 :]:
            assert one.centre @ other.centre < least_cosine_of_centres(LIMIT, one.kept, other.kept) + 1e-6


@pytest.mark.slow
def test_ten_thousand_names_are_fast_and_flat():
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(10_000, 128)))
    centres[9_000:] = centres[:1_000]
    named = [Named(f"{i:016x}", int(rng.integers(2, 100)), c) for i, c in enumerate(centres)]
    tracemalloc.start()
    began = time.perf_counter()
    found = same_person(named, 0.7)
    took = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {frozenset((int(f.identity, 16), int(f.same_as, 16))) for f in found} == {
        frozenset((i, i + 9_000)) for i in range(1_000)
    }
    assert took < 30
    assert peak < 100 * 2**20, "all pairs at once are 381 MiB"


@pytest.mark.slow
@pytest.mark.parametrize("embedder", ["embedded", "open"])
def test_real_identities_split_in_two_are_found_and_different_ones_are_not(shared, embedder):
    from benchmarks.shared_photos import by_identity, known_photos
    from filter.models import EMBEDDERS

    os.environ.setdefault("PERSONAE_CACHE", str(shared / "models"))
    groups = by_identity(known_photos(shared, embedder), least=2)
    named, twins = [], {}
    for name, group in groups.items():
        faces = np.array([p.embedding for p in group])
        parts = [faces[::2], faces[1::2]] if len(group) >= 6 else [faces]
        named += [Named(f"{name}/{i}", len(p), unit(p.sum(axis=0))) for i, p in enumerate(parts)]
        if len(parts) == 2:
            twins[f"{name}/1"] = f"{name}/0"
    assert len(twins) >= 12
    assert set_aside(same_person(named, EMBEDDERS[embedder].same_person_cosine)) == twins
