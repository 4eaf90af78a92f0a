"""`python -m caption CONFIG.yaml`: describe every portrait, in this process."""

from __future__ import annotations

import sys

from caption.config import CaptionRun
from caption.stage import UPSTREAM, CaptionStage
from crawl.command import load_run, run_here
from crawl.errors import InputError, exit_with_one_line
from crawl.output import Output
from crawl.tables import Tables


def main() -> int:
    """Caption, then say how many captions there are and why the others failed."""
    run = load_run("python -m caption", "Describe each portrait in three parts.", CaptionRun)
    output = Output(run.output)
    tables, buckets = Tables(output), range(run.shards.buckets)
    if all(tables.fingerprint(UPSTREAM, b) is None for b in buckets):
        raise InputError(f"{run.output}: no portraits yet: run python -m filter first")
    portraits = sum(r is None for b in buckets for r in tables.rejections(UPSTREAM, b).values())
    run_here([CaptionStage(run, output)], run.shards.buckets, output, portraits)
    outcomes = [r for b in buckets for r in tables.rejections("caption", b).values()]
    failed = [r.reason for r in outcomes if r is not None]
    reasons = ", ".join(f"{failed.count(reason)} {reason}" for reason in sorted(set(failed)))
    captions = len(outcomes) - len(failed)
    print(f"{portraits} portraits, {captions} captions{'; ' + reasons if reasons else ''}: {run.output}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
