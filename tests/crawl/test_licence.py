"""Of several licences of one photo the one counts that permits least."""

import itertools
import random

import pytest

from crawl.licence import ORDER, kind_of, most_restrictive

KINDS = {
    None: "unknown",
    "": "unknown",
    "Unknown": "unknown",
    "CelebA agreement: non-commercial research only": "other terms",
    "CC SAMPLING+ 1.0": "other terms",
    "All rights reserved": "all rights reserved",
    "© Someone. All rights reserved.": "all rights reserved",
    "Copyrighted": "all rights reserved",
    "non-free logo": "all rights reserved",
    "https://creativecommons.org/licenses/by-nc-nd/4.0/": "by-nc-nd",
    "CC BY-NC-SA 2.0": "by-nc-sa",
    "BY-NC 2.0": "by-nc",
    "CC BY-ND 3.0 de": "by-nd",
    "CC BY-SA 4.0": "by-sa",
    "GFDL 1.2": "by-sa",
    "CC BY 3.0": "by",
    "Attribution": "by",
    "OGL 3": "by",
    "CC0": "public domain",
    "PDM 1.0": "public domain",
    "PD-USGov": "public domain",
    "No known copyright restrictions": "public domain",
}


@pytest.mark.parametrize(("licence", "kind"), KINDS.items())
def test_licences_are_of_a_kind(licence, kind):
    assert kind_of(licence) == kind


def test_every_kind_yields_to_the_ones_before_it():
    first = {kind: licence for licence, kind in reversed(KINDS.items())}
    assert set(first) == set(ORDER)
    for stricter, laxer in itertools.combinations(ORDER, 2):
        pair = [first[laxer], first[stricter]]
        assert most_restrictive(pair) == most_restrictive(pair[::-1]) == first[stricter]


def test_of_one_kind_the_first_counts():
    assert most_restrictive(["CC0", "CC BY 3.0", "CC BY 4.0"]) == "CC BY 3.0"
    licences = [*KINDS]
    random.Random(0).shuffle(licences)
    assert kind_of(most_restrictive(licences)) == "unknown"
