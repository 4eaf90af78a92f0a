"""`python -m demo`: make the photos, build the dataset, say what became of the planted ones."""

from __future__ import annotations

import sys
from pathlib import Path

from crawl.config import load
from crawl.errors import exit_with_one_line
from crawl.output import Output
from demo.photos import make_photos
from shards.build import build
from shards.config import BuildRun
from shards.ledger import read_ledger
from shards.summary import print_summary

_CONFIG = str(Path(__file__).parent.parent / "configs" / "demo.yaml")


def main() -> int:
    """Exit code 0 when every planted photo was rejected."""
    run = load(BuildRun, _CONFIG, sys.argv[1:])
    planted = make_photos(Path(run.crawl.sources[0].root))
    print_summary(Output(run.output), build(run))
    ledger = {row["source"]: row for row in read_ledger(Output(run.output)).to_pylist()}
    print("\nPhotos planted in another person's folder:")
    for source in planted:
        row = ledger[source]
        why = f"{row['stage']}: {row['reason']}" if row["reason"] else "nothing"
        value = f" (cosine to this person {row['value']:.2f}, at least {row['threshold']:.2f})" if row["value"] else ""
        print(f"  {source}: {row['status']} by {why}{value}")
    return 0 if all(ledger[source]["status"] == "rejected" for source in planted) else 1


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
