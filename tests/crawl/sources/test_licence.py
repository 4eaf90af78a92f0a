"""One licence, however a source writes it; and lists of allowed ones that mean what they say."""

import pytest

from crawl.sources.licence import licence_allowed, licence_code

CODES = {
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "https://creativecommons.org/licenses/by-sa/4.0/": "cc-by-sa-4.0",
    "http://creativecommons.org/licenses/by/3.0/de/": "cc-by-3.0-de",
    "https://creativecommons.org/licenses/by/4.0/deed.en": "cc-by-4.0",
    "https://creativecommons.org/licenses/by/4.0/legalcode": "cc-by-4.0",
    "CC BY 3.0 de": "cc-by-3.0-de",
    "CC0": "cc0",
    "CC0 1.0": "cc0-1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "cc0-1.0",
    "https://creativecommons.org/publicdomain/mark/1.0/": "pdm-1.0",
    "PDM 1.0": "pdm-1.0",
    "Public Domain Mark 1.0": "pdm-1.0",
    "Public domain": "public-domain",
    "pd": "public-domain",
    "PD-USGov": "pd-usgov",
    "CC SAMPLING+ 1.0": "cc-sampling+-1.0",
    "GFDL 1.2": "gfdl-1.2",
    "": "",
}


@pytest.mark.parametrize(("text", "code"), CODES.items())
def test_licences_have_one_code(text, code):
    assert licence_code(text) == code
    assert licence_code(code) == code


@pytest.mark.parametrize(
    ("licence", "allowed", "verdict"),
    [
        ("CC BY 4.0", ["cc-by"], True),
        ("CC BY 3.0 de", ["CC BY"], True),
        ("CC BY-SA 4.0", ["cc-by"], False),
        ("CC BY-NC 4.0", ["cc-by"], False),
        ("CC BY-NC-ND 2.0", ["cc-by", "cc-by-nc"], False),
        ("CC BY 4.0", ["cc-by-4.0"], True),
        ("CC BY 3.0", ["cc-by-4.0"], False),
        ("CC0 1.0", ["cc0"], True),
        ("CC0", ["https://creativecommons.org/publicdomain/zero/1.0/"], False),
        ("All rights reserved", ["cc-by", "cc0"], False),
        (None, ["cc-by"], False),
        ("", ["cc-by"], False),
        (None, None, True),
        ("All rights reserved", None, True),
        ("CC BY 4.0", [], False),
    ],
)
def test_a_list_allows_its_licences_and_their_versions(licence, allowed, verdict):
    assert licence_allowed(licence, allowed) is verdict
