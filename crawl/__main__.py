"""`python -m crawl CONFIG.yaml`: find and store photos. `… try CONFIG.yaml URL`: test selectors; `… status DATASET`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from crawl.collect import CrawlStage
from crawl.command import Bars, load_run, run_here
from crawl.config import CrawlRun
from crawl.errors import exit_with_one_line
from crawl.gallery.trial import try_command
from crawl.harvest import ask_here, harvest, network_api
from crawl.output import Output
from crawl.status import status_command
from crawl.tables import Tables

_ABOUT = """Find and store photos of the people in a run file.
`python -m crawl try CONFIG.yaml URL` shows what a gallery's selectors find on a page;
`python -m crawl status DATASET` how far the fetching is."""


def main() -> int:
    """Crawl, then say how many photos there are and what was refused."""
    commands = {"try": try_command, "status": status_command}
    if sys.argv[1:2] and sys.argv[1] in commands:
        return commands[sys.argv[1]](sys.argv[2:])
    run = load_run("python -m crawl", _ABOUT, CrawlRun)
    output = Output(run.output)
    if run.crawl.network_sources:
        with Bars() as bars, network_api(run.crawl) as api:
            harvest(run, output, api, ask_here(run, bars.tick), datetime.now(UTC), expect=bars.expect)
    stage = CrawlStage(run, output)
    run_here([stage], run.shards.buckets, output, sum(stage.size(b) for b in range(run.shards.buckets)))
    outcomes = [r for b in range(run.shards.buckets) for r in Tables(output).rejections("crawl", b).values()]
    failed = [r.reason for r in outcomes if r is not None]
    reasons = ", ".join(f"{failed.count(r)} {r}" for r in sorted(set(failed)))
    print(
        f"{len(outcomes)} found, {len(outcomes) - len(failed)} stored{' ; ' + reasons if reasons else ''}: {run.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
