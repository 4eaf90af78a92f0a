"""`python -m demo`: crawl a small gallery on loopback, say what became of the planted photos, train on the others.

Ends with a report of the dataset.
"""

from __future__ import annotations

import sys
from pathlib import Path

from crawl.config import load
from crawl.errors import exit_with_one_line
from crawl.output import Output
from demo.photos import make_photos
from demo.site import FORBIDDEN, gallery_site
from shards.beside.ledger import read_ledger
from shards.build import build
from shards.config import BuildRun
from shards.report.write import write_report
from shards.summary import print_summary

_CONFIG = str(Path(__file__).parent.parent / "configs" / "demo.yaml")
_PHOTOS = Path("out/demo-photos")


def main() -> int:
    """Exit code 0 when every planted photo was rejected, and training on the others ended well."""
    planted = make_photos(_PHOTOS)
    people = sorted(p.name for p in _PHOTOS.iterdir() if p.is_dir())
    (_PHOTOS / "people.txt").write_text("\n".join([*people, FORBIDDEN]) + "\n")
    with gallery_site(_PHOTOS) as host:
        here = [f"crawl.start_url=http://{host}/photos/", f"crawl.own_hosts=['{host}']"]
        run = load(BuildRun, _CONFIG, [*here, *sys.argv[1:]])
        print_summary(Output(run.output), build(run))
    ledger = {str(row["source"]).split("/full/")[1]: row for row in read_ledger(Output(run.output)).to_pylist()}
    print("\nPhotos planted in another person's gallery:")
    for source in planted:
        row = ledger[source]
        why = f"{row['stage']}: {row['reason']}" if row["reason"] else "nothing"
        value = f" (cosine to this person {row['value']:.2f}, at least {row['threshold']:.2f})" if row["value"] else ""
        print(f"  {source}: {row['status']} by {why}{value}")
    if any(ledger[source]["status"] != "rejected" for source in planted):
        return 1
    print("\nTraining an adapter on these shards, on a tiny base from scratch:", flush=True)
    from demo.training import train_on  # torch takes seconds to load

    code = train_on(run.output)
    where, num_bytes = write_report(run.output)
    print(f"\nReport of the dataset, for any browser: {where} ({num_bytes / 1e6:.1f} MB)")
    return code


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
