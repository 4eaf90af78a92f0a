"""The configuration page is the models' own words."""

from pathlib import Path

from shards.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == reference() + "\n", "run: python -m shards.reference > docs/configuration.md"


def test_every_key_says_what_it_means():
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert all(row.split("|")[4].strip() for row in rows), [r for r in rows if not r.split("|")[4].strip()]
